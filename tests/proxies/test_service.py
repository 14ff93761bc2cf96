import math
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.errors import UsageError
from proxies import ScoringService, registry
from proxies.batch import Minibatch, gaussian
from proxies.passes import PASSES
from proxies.store import Row, open_store
from searchers.guidance import Guidance
from spaces.base import Choices
from tests.proxies.tiny_space import BrokenSpace, TinySpace

NAMES = ["synflow", "params", "flops"]
ALL = list(TinySpace().enumerate())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "scores.sqlite"


def fresh(space=None, **settings):
    return ScoringService(space or TinySpace(), **({"store": "memory"} | settings))


def test_scores_in_order_and_shares_what_is_equivalent():
    service = fresh()
    archs = [(3, 1, 2), (1, 3, 2), (3, 2, 1), (2, 3, 1), (3, 1, 2)]
    table = service.score(archs, NAMES)
    assert table.architectures == archs
    assert table.names == tuple(NAMES)
    assert table.values.shape == table.seconds.shape == (5, 3)
    assert table.values.dtype == np.float64
    flow = table.column("synflow")
    assert flow[0] == flow[1] == flow[2] == flow[4] != flow[3]
    # Two forms for synflow, four architectures as trained for params and for flops.
    assert service.computed == 2 + 4 + 4
    assert service.hits == 5 * 3 - service.computed
    assert table.reasons == {}
    assert (table.seconds > 0).all()


def test_a_table_knows_aliases_and_is_an_array():
    table = fresh().score([(3, 3, 3), (3, 2, 1)], ["nwot", "reduced_training(epochs=3)"])
    assert np.array_equal(table.column("nwot"), table.column("naswot"))
    spaced = table.column("reduced_training( epochs = 3 )")
    assert np.array_equal(np.asarray(table), np.column_stack([table.column("nwot"), spaced]))
    assert (np.asarray(table).dtype, np.asarray(table, np.float32).dtype) == (float, np.float32)
    assert not np.may_share_memory(np.array(table), table.values)
    with pytest.raises(UsageError, match="proxy=synflow is unknown; choose one of: naswot, red"):
        table.column("synflow")


def test_inputs_of_any_precision_are_scored():
    inputs = torch.ones(4, 3, 8, 8, dtype=torch.bfloat16)
    batch = Minibatch(inputs, torch.tensor([0, 1, 2, 3]), "brain floats")
    assert np.isfinite(fresh(batch=batch).values([(3, 2, 1)], "grad_norm")).all()


def test_architecture_level_proxies_see_the_architecture_as_trained():
    table = fresh().score([(0, 3, 3), (0, 0, 0)], ["synflow", "params"])
    assert table.column("synflow")[0] == table.column("synflow")[1]
    assert table.column("params")[0] == table.column("params")[1] + 2 * (4 * 4 * 9 + 8)


def test_values_are_those_of_score():
    service = fresh()
    values = service.values(ALL, "synflow")
    assert np.array_equal(values, fresh().score(ALL, "synflow").column("synflow"))
    assert service.computed == len({TinySpace().canonical(a) for a in ALL})
    hits = service.hits
    assert np.array_equal(service.values(ALL, "synaptic_flow"), values)
    assert service.hits == hits + len(ALL)
    assert service.values([], "synflow").shape == (0,)


@settings(max_examples=10, deadline=None)
@given(st.permutations(ALL), st.integers(1, 40))
def test_a_score_does_not_depend_on_order_or_company(archs, first):
    expected = dict(zip(ALL, _reference(), strict=True))
    service = fresh()
    service.values(archs[first : first + 5], "synflow")
    torch.manual_seed(first)
    assert np.array_equal(service.values(archs, "synflow"), [expected[a] for a in archs])


_known = []


def _reference():
    if not _known:
        _known.append(fresh().values(ALL, "synflow"))
    return _known[0]


def test_scoring_leaves_the_random_numbers_and_the_threads_alone():
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    fresh().score(ALL[:8], NAMES)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002


def test_the_callers_default_dtype_takes_no_part():
    expected = fresh().values(ALL[20:24], "synflow")
    torch.set_default_dtype(torch.float64)
    try:
        assert np.array_equal(fresh().values(ALL[20:24], "synflow"), expected)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_store_remembers(path):
    first = fresh(store=path)
    table = first.score(ALL, NAMES)
    again = fresh(store=path)
    repeated = again.score(ALL, NAMES)
    assert again.computed == 0
    assert again.hits == len(ALL) * 3
    assert again.proxy_seconds == 0
    assert np.array_equal(repeated.values, table.values)
    assert np.array_equal(repeated.seconds, table.seconds)
    assert again.mean_seconds("synflow") == pytest.approx(first.mean_seconds("synflow"))
    assert first.proxy_seconds > 0


def test_what_another_process_stored_meanwhile_is_found(path):
    one, other = fresh(store=path), fresh(store=path)
    one.values(ALL[:1], "synflow")
    other.values(ALL, "synflow")
    one.values(ALL, "synflow")
    assert one.computed == 1


def test_a_cached_search_needs_no_torch(path):
    fresh(store=path).score(ALL, NAMES)
    code = f"""
import sys
from proxies import ScoringService, ProxyScorer
from tests.proxies.tiny_space import TinySpace
service = ScoringService(TinySpace(), store={str(path)!r})
archs = list(TinySpace().enumerate())
service.score(archs, {NAMES!r})
ProxyScorer(service, "synflow")(archs)
assert service.computed == 0 and "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_data_free_proxies_make_no_batch():
    def never(space):
        raise AssertionError("no proxy needs it")

    assert np.isfinite(fresh(batch=never).values(ALL[30:32], "synflow")).all()


@pytest.mark.parametrize(
    "one,other",
    [
        ({"seed": 0}, {"seed": 1}),
        ({"running_stats": False}, {"running_stats": True}),
        ({"space": TinySpace(classes=10)}, {"space": TinySpace(classes=20)}),
        (
            {"batch": Minibatch.empty((3, 8, 8))},
            {"batch": Minibatch.empty((3, 10, 10))},
        ),
    ],
    ids=["seed", "running_stats", "classes", "shape"],
)
def test_what_changes_the_key(path, one, other):
    arch = (3, 2, 1)
    services = [fresh(store=path, **kind) for kind in (one, other)]
    keys = [service.key(registry.get("synflow")) for service in services]
    assert keys[0] != keys[1]
    values = [service.values([arch], "synflow")[0] for service in services]
    assert [service.computed for service in services] == [1, 1]
    if "running_stats" not in one:
        assert values[0] != values[1]


def test_what_the_key_leaves_out():
    flow, size = registry.get("synflow"), registry.get("params")
    space = TinySpace()
    assert fresh(seed=0).key(size) == fresh(seed=1).key(size)
    assert fresh(batch=gaussian).key(flow) == fresh().key(flow)
    assert fresh(dtype="float64").key(flow) == fresh().key(flow)
    assert fresh(space, workers="processes").key(flow) == fresh(space).key(flow)


def test_the_key_of_a_proxy_that_needs_data_holds_its_batch():
    import dataclasses

    proxy = dataclasses.replace(registry.get("synflow"), needs_data=True, dtype=None)
    seeds = [fresh(batch=lambda s, n=n: gaussian(s, seed=n)) for n in (0, 1)]
    assert seeds[0].key(proxy)["batch"] != seeds[1].key(proxy)["batch"]
    assert fresh(dtype="float64").key(proxy)["dtype"] == "float64"


def test_failures_are_nan_with_a_reason_and_are_remembered(path):
    archs = [(1, 1, 1), (2, 1, 1), (3, 1, 1)]
    for computed in (6, 0):
        service = fresh(BrokenSpace(), store=path)
        table = service.score(archs, ["synflow", "params"])
        assert service.computed == computed
        assert np.isnan(table.values).tolist() == [[False, False], [True, True], [True, False]]
        assert set(table.reasons) == {(1, "synflow"), (1, "params"), (2, "synflow")}
        assert table.reasons[1, "params"] == "RuntimeError: no such network"
        assert table.reasons[2, "synflow"].startswith("RuntimeError: Given groups=1")


FAILURES_OF_THE_MACHINE = {
    "memory": (MemoryError(), "^out of memory$"),
    "memory of a GPU": (torch.OutOfMemoryError("CUDA out of memory."), "^out of memory$"),
    "kernel": (RuntimeError("CUDA error: an illegal memory access"), "machine failed.*CUDA error"),
    "handle": (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), "machine failed"),
    "convolution": (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), "machine failed"),
    "file": (FileNotFoundError(2, "No such file", "a.npz"), "failed: FileNotFoundError: .*a.npz"),
    "package": (ModuleNotFoundError("No module named 'timm'"), "failed: ModuleNotFoundError"),
}


@pytest.mark.parametrize("kind", FAILURES_OF_THE_MACHINE)
def test_failures_of_the_machine_are_not_remembered(path, monkeypatch, kind):
    failure, reason = FAILURES_OF_THE_MACHINE[kind]

    def failing(*_, **__):
        raise failure

    arch = (3, 3, 3)
    with monkeypatch.context() as patch:
        patch.setitem(PASSES, "synflow", failing)
        table = fresh(store=path).score([arch], "synflow")
        assert re.search(reason, table.reasons[0, "synflow"])
    with monkeypatch.context() as patch:
        patch.setattr(TinySpace, "network", failing)
        table = fresh(store=path).score([arch], "params")
        assert re.search(reason, table.reasons[0, "params"])
    assert np.isfinite(fresh(store=path).score([arch], ["synflow", "params"]).values).all()


def test_impossible_requests_are_refused():
    service = fresh()
    with pytest.raises(UsageError, match="proxy=magic is unknown"):
        service.score(ALL[:1], ["magic"])
    with pytest.raises(UsageError, match=r"\(9, 9, 9\) is no architecture of tiny"):
        service.score([(9, 9, 9)], "synflow")
    with pytest.raises(UsageError, match="choices has no networks"):
        fresh(Choices(depth=[1, 2])).score([(0,)], "synflow")


def test_a_batch_of_the_wrong_shape_is_refused():
    with pytest.raises(UsageError, match=r"service.batch must hold inputs \[3, 8, 8\] for tiny"):
        _ = fresh(batch=lambda space: Minibatch.gaussian((3, 9, 9), 10)).batch


@pytest.mark.parametrize(
    "setting,value",
    [("workers", "threads"), ("init", "same"), ("device", "tpu"), ("dtype", "int8")],
)
def test_unknown_settings_are_refused(setting, value):
    with pytest.raises(UsageError, match=f"service.{setting}={value} is unknown; choose one of"):
        fresh(**{setting: value})
    with pytest.raises(UsageError, match=r"service\.processes=0 must be at least 1"):
        fresh(processes=0)


def test_a_killed_driver_loses_nothing_that_was_stored(path):
    code = f"""
from proxies import ScoringService
from tests.proxies.tiny_space import SlowSpace
space = SlowSpace(length=5)
ScoringService(space, store={str(path)!r}).values(list(space.enumerate()), "params")
"""
    driver = subprocess.Popen([sys.executable, "-c", code])
    from tests.proxies.tiny_space import SlowSpace

    space = SlowSpace(length=5)
    archs = list(space.enumerate())
    deadline = time.monotonic() + 60
    stored = 0
    while not stored and time.monotonic() < deadline:
        time.sleep(0.05)
        if path.exists():
            service = ScoringService(space, store=path)
            stored = len(service._column("params").rows)
            service.close()
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert 0 < stored < len(archs)
    service = fresh(space, store=path)
    kept = [arch for arch in archs if space.format(arch) in service._column("params").rows]
    assert len(kept) >= stored
    lost = [arch for arch in archs if arch not in kept]
    service.values(kept + lost[:16], "params")
    assert service.computed == 16


def test_a_thousand_known_scores_take_microseconds():
    service = fresh(TinySpace(length=6))
    context = service.store.context(service.key(registry.get("params")))
    archs = list(service.space.enumerate())[:3000]
    service.store.put_many(
        context, {service.space.format(a): Row(float(i), 0.1) for i, a in enumerate(archs)}
    )
    assert service.values(archs, "params").tolist() == list(range(3000))
    times = []
    for _ in range(20):
        began = time.perf_counter()
        service.values(archs, "params")
        times.append(time.perf_counter() - began)
    assert min(times) < 1.5e-3
    assert service.computed == 0


def test_a_scorer_guides():
    from proxies import ProxyScorer

    service = fresh(BrokenSpace())
    scorer = ProxyScorer(service, "synflow")
    archs = [(3, 1, 1), (1, 3, 3), (1, 1, 1)]
    goodness = scorer(archs)
    assert goodness[0] == -math.inf
    assert np.array_equal(goodness[1:], service.values(archs[1:], "synflow"))
    guidance = Guidance(scorer, move="all", epsilon=0.0)
    assert np.array_equal(guidance.goodness(archs), goodness)
    assert guidance.seconds == pytest.approx(service.score(archs, "synflow").seconds.sum())
    assert guidance.seconds > 0


def test_a_scorer_turns_what_is_better_when_small(monkeypatch):
    import dataclasses

    from proxies import ProxyScorer

    cheap = dataclasses.replace(registry.get("params"), higher_is_better=False)
    monkeypatch.setitem(registry._PROXIES, "params", cheap)
    goodness = ProxyScorer(fresh(), "params")([(1, 1, 1), (3, 3, 3)])
    assert goodness[0] > goodness[1]


def test_store_may_be_shared_with_a_reader(path):
    service = fresh(store=path)
    service.values(ALL[:3], "synflow")
    reader = open_store(path)
    assert len(reader.get_many(reader.context(service.key(registry.get("synflow"))))) > 0
