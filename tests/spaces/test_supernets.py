from __future__ import annotations

import itertools
import pickle

import numpy as np
import pytest
import torch

from conf.errors import UsageError
from proxies import registry
from proxies.batch import Minibatch
from proxies.workers import Chunk, Job
from spaces import Choices
from spaces.darts import DARTS
from spaces.initial_weights import InitialWeights
from spaces.mobilenet import MobileNet, Proxyless
from spaces.nasbench1shot1 import NASBench1Shot1
from spaces.nasbench201 import NASBench201
from spaces.nasbench_macro import NASBenchMacro
from spaces.supernets import Place, Supernets, mean

SPACES = {
    "nasbench201": lambda: NASBench201("cifar10", channels=4, cells=2),
    "nasbench_macro": NASBenchMacro,
    "proxyless": lambda: Proxyless(image_size=32),
    "darts": lambda: DARTS(table="none", layers=3, channels=4),
    "darts s1": lambda: DARTS("s1", table="none", layers=3, channels=4),
    "darts s3": lambda: DARTS("s3", table="none", layers=3, channels=4),
    **{
        f"nasbench1shot1 {number}": lambda number=number: NASBench1Shot1(number)
        for number in (1, 2, 3)
    },
}
NASWOT = (registry.get("naswot_eval"),)


@pytest.fixture(params=SPACES)
def base(request):
    space = SPACES[request.param]()
    if space.name != "proxyless":
        space.image_size = 8
    return space


@pytest.fixture
def space(base):
    return Supernets(base)


def whole(space):
    return [*space.decode(space.whole)]


def decided(base, seed=0):
    """Decide every place at random, and cut places until each junction keeps what it must."""
    rng = np.random.default_rng(seed)
    left = [(int(rng.integers(len(place.choices))),) for place in base.places]
    for junction in base.junctions:
        cut = rng.permutation(junction.places)[: len(junction.places) - junction.keep]
        for place in cut:
            left[place] = ()
    return tuple(left)


def removals(space, place):
    """Take each operation of one place out, one at a time."""
    supernet = whole(space)
    operations, of = supernet[place]
    found = []
    for removed in operations:
        supernet[place] = Place(tuple(o for o in operations if o != removed), of)
        found.append(space.encode(tuple(supernet)))
    return found


def test_text_and_code_round_trip(space):
    drawn = space.sample(np.random.default_rng(0), 50)
    assert [space.parse(space.format(arch)) for arch in drawn] == drawn
    assert [space.encode(space.decode(arch)) for arch in drawn] == drawn
    assert all(space.is_valid(arch) for arch in drawn)
    assert space.is_valid(space.whole)
    assert pickle.loads(pickle.dumps(space)).whole == space.whole


def test_notation():
    space = Supernets(NASBench201("cifar10"))
    supernet = whole(space)
    supernet[1] = Place((0, 1, 3, 4), 5)
    supernet[2] = Place((3,), 1)
    text = "01234/5 0134/5 3/1 01234/5 01234/5 01234/5"
    assert space.format(space.encode(tuple(supernet))) == text
    assert space.parse(text) == space.encode(tuple(supernet))
    for damaged in ("", text + " 3/1", text.replace("3/1", "34/1"), text.replace("3/1", "5/1")):
        with pytest.raises(UsageError, match="is no supernet of nasbench201"):
            space.parse(damaged)


def test_a_space_without_single_operations_has_none():
    for space in (Choices(depth=[1, 2]), MobileNet()):
        with pytest.raises(UsageError, match=f"{space.name} has no supernet"):
            Supernets(space)


def test_a_decided_supernet_is_an_architecture(base):
    for seed in range(20):
        arch = base.decided(decided(base, seed))
        assert base.is_valid(arch) or base.name == "proxyless"


def test_a_decided_supernet_computes_what_its_architecture_does(base, space):
    """Weights are handed over by the order in which modules run."""
    if base.name == "nasbench1shot1":
        pytest.skip("widths of a cell depend on its edges, those of its supernet do not")
    left = decided(base)
    images = torch.randn(2, 3, base.image_size, base.image_size)
    torch.manual_seed(0)
    supernet = space.network(space.encode(mean(left)), running_stats=False).eval()
    network = base.network(base.decided(left), running_stats=False).eval()
    _hand_over(supernet, network, images)
    torch.testing.assert_close(network(images), supernet(images))


def _hand_over(source, target, images):
    """Copy the weights of the layers that run in ``source`` to those of ``target``, by shape."""

    def run(network):
        used = []
        layers = (torch.nn.Conv2d, torch.nn.Linear)
        handles = [
            module.register_forward_hook(lambda module, *_: used.append(module))
            for module in network.modules()
            if isinstance(module, layers)
        ]
        network(images)
        for handle in handles:
            handle.remove()
        return used

    with torch.no_grad():
        for given, taken in zip(run(source), run(target), strict=True):
            taken.load_state_dict(given.state_dict())


def test_removing_leaves_the_weights_of_the_rest(base, space):
    removed = space.decode(removals(space, 0)[0])
    torch.manual_seed(0)
    full = space.network(space.whole)
    torch.manual_seed(0)
    rest = space.network(space.encode(removed))
    (first, *_), (kept, *_) = full.mixtures()[0], rest.mixtures()[0]
    assert len(kept.candidates) == len(first.candidates) - 1
    for candidate, same in zip(list(first.candidates)[1:], kept.candidates, strict=True):
        for weight, copy in zip(candidate.parameters(), same.parameters(), strict=True):
            assert torch.equal(weight, copy)
    features = torch.randn(2, _channels(kept), 8, 8)
    if features.shape[1]:
        first.eval(), kept.eval()
        whole_sum = first(features) * len(first.candidates)
        gone = first.candidates[0](features)
        torch.testing.assert_close(kept(features) * len(first.candidates), whole_sum - gone)


def _channels(mixture):
    return next((m.in_channels for m in mixture.modules() if isinstance(m, torch.nn.Conv2d)), 0)


@pytest.mark.parametrize("place", [0, -1])
def test_branches_are_scored_as_each_by_itself(base, space, place):
    place %= len(base.places)
    archs = removals(space, place)
    if base.junctions and place:  # at the junctions places are cut, each in its turn
        inputs = base.junctions[-1].places
        archs = [a for p in inputs for a in [_cut(space, p)]]
    job = _job(space)
    together = job.run(Chunk(tuple(archs), NASWOT)).scores.values[:, 0]
    alone = [job._score(arch, NASWOT).values[0, 0] for arch in archs]
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    assert len(set(np.round(alone, 6))) > 1 or len(archs) == 1


def _cut(space, place):
    supernet = whole(space)
    supernet[place] = Place((), supernet[place].of)
    return space.encode(tuple(supernet))


def _job(space):
    batch = Minibatch.gaussian((3, space.image_size, space.image_size), space.classes, size=6)
    return Job(space, batch, InitialWeights(), False, "cpu", "float32")


def test_units_count_for_each_branch():
    """A removed convolution runs on zeros: its ReLU, of as many units as features, is off."""
    space = Supernets(NASBench201("cifar10", channels=4, cells=1))
    archs = removals(space, 3)
    whole, cells = _units(space, space.whole), 4 * 32**2 + 8 * 16**2 + 16 * 8**2
    assert [whole - _units(space, arch) for arch in archs] == [0, 0, cells, cells, 0]
    proxies = (registry.get("naswot_eval"), registry.get("naswot_eval", units=whole))
    plain, padded = _job(space).run(Chunk(tuple(archs), proxies)).scores.values.T
    np.testing.assert_allclose(plain[[0, 1, 4]], padded[[0, 1, 4]], rtol=1e-9)
    assert (padded > plain)[2:4].all()
    alone = _job(space)._score(archs[2], proxies).values[0]
    np.testing.assert_allclose(alone, [plain[2], padded[2]], rtol=1e-5)


def _units(space, arch):
    """Count the ReLU units of a network: what one example has in common with itself."""
    counted = []
    network = space.network(arch, running_stats=False)
    for module in network.modules():
        if isinstance(module, torch.nn.ReLU):
            module.register_forward_pre_hook(lambda _, inputs: counted.append(inputs[0][0].numel()))
    network.eval()(torch.randn(2, 3, space.image_size, space.image_size))
    return sum(counted)


def test_branches_run_together(base, space, monkeypatch):
    """No removal on an edge falls back to a pass of its own."""
    monkeypatch.setattr(Job, "_score", lambda *_: pytest.fail("scored alone"))
    place = len(base.places) // 2 if not base.junctions else 0
    found = _job(space).run(Chunk(tuple(removals(space, place)), NASWOT))
    assert np.isfinite(found.scores.values).all()


def test_several_places_part_into_groups(space):
    first, last = removals(space, 0), removals(space, 1)
    groups = list(space.branches([*first, *last]))
    assert sorted(itertools.chain(*groups)) == list(range(len(first) + len(last)))
    assert len(groups) <= 3


@pytest.mark.parametrize("proxy", ["synflow", "grad_norm", "zico", "naswot", "az_trainability"])
def test_any_proxy_scores_supernets(proxy):
    space = Supernets(NASBench201("cifar10", channels=4, cells=1))
    proxies = (registry.get(proxy),)
    found = _job(space).run(Chunk(tuple(removals(space, 3)), proxies)).scores
    assert np.isfinite(found.values).all(), found.reasons
    assert len(set(found.values[:, 0])) > 1


def test_feasible_keeps_to_the_limit():
    space = Proxyless()
    everything = tuple(tuple(range(len(place.choices))) for place in space.places)
    assert space.feasible(everything)
    assert not space.feasible(tuple((5,) for _ in space.places))
