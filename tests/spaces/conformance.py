"""What every search space must do; a space's tests inherit :class:`SpaceConformance`."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from conf.errors import UsageError
from spaces.base import SearchSpace, distinct

DRAWS = 200


def edits(one, other):
    return sum(a != b for a, b in zip(one, other, strict=True))


class SpaceConformance:
    """Needs a fixture ``space``; the flags say what the space has."""

    has_graph = False
    has_network = False
    enumerable_up_to = 20_000

    @pytest.fixture
    def archs(self, space: SearchSpace):
        return space.sample(np.random.default_rng(1), DRAWS)

    def test_samples_are_valid_architectures(self, space, archs):
        assert len(archs) == DRAWS
        for arch in archs:
            assert type(arch) is tuple
            assert all(type(choice) is int for choice in arch)
            assert space.is_valid(arch)

    def test_same_seed_draws_the_same(self, space, archs):
        assert space.sample(np.random.default_rng(1), DRAWS) == archs
        assert space.sample(np.random.default_rng(2), DRAWS) != archs

    def test_no_draws(self, space):
        assert space.sample(np.random.default_rng(0), 0) == []

    def test_every_choice_is_drawn(self, space):
        drawn = space.sample(np.random.default_rng(0), 2000)
        for position, decision in enumerate(space.decisions):
            assert {arch[position] for arch in drawn} == set(range(len(decision.choices)))

    def test_validity_asks_for_one_legal_choice_a_decision(self, space, archs):
        arch = archs[0]
        assert not space.is_valid(())
        assert not space.is_valid((*arch, 0))
        assert not space.is_valid((-1, *arch[1:]))
        assert not space.is_valid((len(space.decisions[0].choices), *arch[1:]))
        together = [(), arch, (*arch, 0), (-1, *arch[1:]), arch]
        assert space.are_legal(together).tolist() == [False, True, False, False, True]
        assert space.are_legal([]).tolist() == []

    def test_neighbours_are_all_valid_single_edits(self, space, archs):
        for arch in archs[:20]:
            neighbours = space.neighbours(arch)
            assert len(set(neighbours)) == len(neighbours)
            assert all(edits(arch, n) == 1 and space.is_valid(n) for n in neighbours)
            every_edit = {
                (*arch[:i], choice, *arch[i + 1 :])
                for i, decision in enumerate(space.decisions)
                for choice in range(len(decision.choices))
                if choice != arch[i]
            }
            assert set(neighbours) == {edit for edit in every_edit if space.is_valid(edit)}

    def test_either_has_neighbours_or_says_so(self, space, archs):
        if any(space.neighbours(arch) for arch in archs):
            space.check_neighbours()
            return
        for ask in (space.check_neighbours, lambda: space.mutate(archs[0], np.random)):
            with pytest.raises(UsageError, match="choose"):
                ask()

    def test_distinct_draws_are_the_sample_without_repeats(self, space):
        n = min(space.size, DRAWS)
        drawn = distinct(space, np.random.default_rng(1), n)
        assert len(set(drawn)) == len(drawn) == n
        sampled = dict.fromkeys(space.sample(np.random.default_rng(1), n))
        assert drawn[: len(sampled)] == list(sampled)
        with pytest.raises(UsageError, match="different ones"):
            distinct(space, np.random.default_rng(1), space.size + 1)

    def test_a_mutation_is_a_neighbour(self, space, archs):
        rng = np.random.default_rng(3)
        for arch in archs:
            assert space.mutate(arch, rng) in space.neighbours(arch)

    def test_mutation_is_decided_by_the_generator(self, space, archs):
        def mutate(seed):
            rng = np.random.default_rng(seed)
            return [space.mutate(arch, rng) for arch in archs]

        assert mutate(5) == mutate(5) != mutate(6)

    def test_mutation_reaches_every_neighbour(self, space, archs):
        rng = np.random.default_rng(4)
        neighbours = space.neighbours(archs[0])
        reached = {space.mutate(archs[0], rng) for _ in range(60 * len(neighbours))}
        assert reached == set(neighbours)

    def test_notation_round_trips(self, space, archs):
        texts = [space.format(arch) for arch in archs]
        assert [space.parse(text) for text in texts] == archs
        assert [space.parse(f" {text}\n") for text in texts] == archs
        assert len(set(texts)) == len(set(archs))

    @pytest.mark.parametrize("text", ["", "   ", "nonsense", "|", ",,,,,", "\x00", "0" * 500])
    def test_garbage_is_refused(self, space, text):
        with pytest.raises(UsageError, match=f"no architecture of {space.name}"):
            space.parse(text)

    def test_notation_with_something_added_or_missing_is_refused(self, space, archs):
        text = space.format(archs[0])
        for damaged in (text + text, text + "x", "x" + text, text[:-1]):
            with pytest.raises(UsageError):
                space.parse(damaged)

    def test_canonical_is_a_fixed_valid_representative(self, space, archs):
        for arch in archs:
            representative = space.canonical(arch)
            assert space.is_valid(representative)
            assert space.canonical(representative) == representative
        assert space.canonicals(archs) == [space.canonical(arch) for arch in archs]

    def test_one_hot_has_one_choice_a_decision(self, space, archs):
        code = space.one_hot(archs)
        widths = [len(d.choices) for d in space.decisions]
        assert code.shape == (DRAWS, sum(widths))
        assert code.dtype == np.float32
        for position, part in enumerate(np.split(code, np.cumsum(widths)[:-1], axis=1)):
            np.testing.assert_array_equal(part.sum(axis=1), 1)
            np.testing.assert_array_equal(part.argmax(axis=1), [arch[position] for arch in archs])
        assert space.one_hot([]).shape == (0, sum(widths))

    def test_graphs_stack_and_are_acyclic(self, space, archs):
        if not self.has_graph:
            with pytest.raises(UsageError, match=space.name):
                space.graph(archs[0])
            return
        graphs = [space.graph(arch) for arch in archs]
        nodes = len(graphs[0].operations)
        for graph in graphs:
            assert graph.adjacency.shape == (nodes, nodes)
            assert graph.adjacency.dtype == np.bool_
            assert not np.tril(graph.adjacency).any()
            assert graph.operations.shape == (nodes,)
            assert graph.operations.dtype == np.int64
            assert graph.operations.min() >= 0
            assert graph.operations.max() < len(space.graph_operations)
        keys = [(g.adjacency.tobytes(), g.operations.tobytes()) for g in graphs]
        assert len(set(keys)) == len(set(archs))

    def test_networks_map_images_to_logits(self, space, archs):
        if not self.has_network:
            with pytest.raises(UsageError, match=space.name):
                space.network(archs[0])
            return
        import torch

        images = torch.randn(2, 3, space.image_size, space.image_size)
        for arch in archs[:3]:
            assert space.network(arch)(images).shape == (2, space.classes)
            assert space.network(arch, 7)(images).shape == (2, 7)

    def test_networks_are_drawn_from_the_global_generator(self, space, archs):
        if not self.has_network:
            pytest.skip("the space has no networks")
        import torch

        def build(seed):
            torch.manual_seed(seed)
            return torch.cat([p.flatten() for p in space.network(archs[0]).parameters()])

        assert torch.equal(build(0), build(0))
        assert not torch.equal(build(0), build(1))

    def test_networks_without_running_stats_have_none(self, space, archs):
        if not self.has_network:
            pytest.skip("the space has no networks")
        assert list(space.network(archs[0], running_stats=True).buffers())
        assert not list(space.network(archs[0], running_stats=False).buffers())

    def test_survives_pickling(self, space, archs):
        copy = pickle.loads(pickle.dumps(space))
        assert copy.decisions == space.decisions
        assert copy.network_key() == space.network_key()
        assert copy.sample(np.random.default_rng(1), DRAWS) == archs
        assert [copy.canonical(a) for a in archs] == [space.canonical(a) for a in archs]

    def test_enumerates_every_valid_architecture_once_in_order(self, space):
        if space.size > self.enumerable_up_to:
            pytest.skip("the space is large")
        everything = list(space.enumerate())
        assert everything == sorted(set(everything))
        assert all(space.is_valid(arch) for arch in everything)
        assert len(everything) <= space.size
        assert set(space.sample(np.random.default_rng(0), 50)) <= set(everything)
