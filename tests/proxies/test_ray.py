"""Workers on a Ray cluster that this machine plays: a head without room for any, and two nodes."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from conf.errors import UsageError
from proxies import ScoringService
from proxies.batch import Minibatch
from proxies.failures import WORKER_DIED
from proxies.workers import CHUNK, Chunk, Job, inline
from spaces.initial_weights import InitialWeights
from tests.proxies.tiny_space import FragileSpace, SlowSpace, TinySpace

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from proxies.ray_workers import RayCluster  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NAMES = ["synflow", "params", "flops"]
NODE = {"num_cpus": 1, "object_store_memory": 80_000_000}


class Nodes:
    """A cluster to which nodes come and from which they go."""

    def __init__(self):
        head = NODE | {"num_cpus": 0, "include_dashboard": False}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = self.cluster.address
        self.nodes = []
        self.fill()

    def fill(self):
        while len(self.nodes) < 2:
            self.nodes.append(self.cluster.add_node(**NODE))
        self.cluster.wait_for_nodes()

    def remove(self):
        self.cluster.remove_node(self.nodes.pop(), allow_graceful=False)


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        # Nodes hand their environment on to their workers.
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_AUTH_MODE", "disabled")
        nodes = Nodes()
        yield nodes
        ray.shutdown()
        nodes.cluster.shutdown()


@pytest.fixture
def nodes(cluster):
    cluster.fill()
    return cluster


@pytest.fixture
def fresh(nodes):
    def make(space, **settings):
        settings = {"store": "memory", "workers": "ray", "address": nodes.address} | settings
        return ScoringService(space, **settings)

    return make


def job(space, device="auto"):
    return Job(space, Minibatch.empty((3, 8, 8)), InitialWeights(), False, device, "float32")


def chunks(service, space):
    proxies = (service._column("params").proxy,)
    archs = list(space.enumerate())
    return [
        Chunk(tuple(archs[start : start + CHUNK]), proxies) for start in range(0, len(archs), CHUNK)
    ]


class Watched(SlowSpace):
    """Leaves a file named by the process that builds a network."""

    def __init__(self, folder):
        super().__init__(length=5)
        self.folder = folder

    def network(self, arch, **settings):
        (self.folder / str(os.getpid())).touch()
        return super().network(arch, **settings)

    def workers(self):
        return {int(file.name) for file in self.folder.iterdir()}


def test_ray_gives_the_same_bits_as_inline(fresh):
    space = TinySpace(length=4)
    archs = list(space.enumerate())
    far, here = fresh(space), fresh(space, workers="inline")
    table, expected = far.score(archs, NAMES), here.score(archs[::-1], NAMES)
    assert np.array_equal(table.values, expected.values[::-1])
    assert far.computed == here.computed
    assert far.hits == here.hits


def test_chunks_are_drawn_when_an_actor_is_free(fresh, nodes):
    space = SlowSpace(length=4)
    every = chunks(fresh(space), space)
    drawn = []
    results = RayCluster(nodes.address, 0.25, "cpu").score(
        job(space), (drawn.append(chunk) or chunk for chunk in every), 2
    )
    for done, _ in enumerate(results, start=1):
        assert len(drawn) - done <= 1
    assert done == len(every)


def disturb(fresh, space, tmp_path, *blows):
    """Score all of ``space``; once both nodes work, deal one of ``blows`` at every tenth result."""
    service = fresh(space, store=tmp_path / "scores.sqlite")
    put_many, waiting, calls = service.store.put_many, list(blows), 0

    def put_and_strike(context, rows):
        nonlocal calls
        put_many(context, rows)
        calls += len(space.workers()) > 1
        if waiting and calls % 10 == 1:
            waiting.pop(0)()

    service.store.put_many = put_and_strike
    archs = list(space.enumerate())
    table = service.score(archs, "params")
    assert not waiting
    assert table.reasons == {}
    assert service.computed == len(archs)
    expected = fresh(TinySpace(length=5), workers="inline").score(archs, "params")
    assert np.array_equal(table.values, expected.values)
    assert len(service.store.get_many(service._column("params").context)) == len(archs)


def test_a_killed_actor_is_replaced_and_nothing_is_lost(fresh, tmp_path):
    (folder := tmp_path / "workers").mkdir()
    space = Watched(folder)
    disturb(fresh, space, tmp_path, lambda: os.kill(min(space.workers()), signal.SIGKILL))
    assert len(space.workers() - {os.getpid()}) == 3


def test_a_node_may_go_and_another_come(fresh, nodes, tmp_path):
    (folder := tmp_path / "workers").mkdir()
    space = Watched(folder)
    disturb(fresh, space, tmp_path, nodes.remove, nodes.fill)
    assert len(space.workers() - {os.getpid()}) == 3


def test_the_last_node_may_go_if_another_comes(fresh, nodes, tmp_path):
    (folder := tmp_path / "workers").mkdir()
    space = Watched(folder)

    def replace_all():
        nodes.remove()
        nodes.remove()
        nodes.fill()

    disturb(fresh, space, tmp_path, replace_all)
    assert len(space.workers() - {os.getpid()}) == 4


def test_what_kills_every_actor_is_nan_and_the_others_are_scored(fresh, tmp_path):
    space = FragileSpace(victim=(3, 3, 3))
    archs = list(space.enumerate())
    service = fresh(space, store=tmp_path / "scores.sqlite")
    table = service.score(archs, "params")
    assert table.reasons == {(archs.index((3, 3, 3)), "params"): WORKER_DIED}
    assert np.isnan(table.values).sum() == 1
    assert len(service.store.get_many(service._column("params").context)) == len(archs) - 1


def test_actors_take_their_share_of_a_gpu(fresh, nodes):
    # Ray counts the GPUs that it is told of; torch scores on the CPU where it finds none.
    node = nodes.cluster.add_node(**NODE | {"num_cpus": 4, "num_gpus": 1})
    nodes.cluster.wait_for_nodes()
    try:
        space = SlowSpace(length=4)
        every = chunks(fresh(space), space)
        assert RayCluster(nodes.address, 0.5, "auto").room() == 2
        assert RayCluster(nodes.address, 0.1, "auto").room() == 4
        assert RayCluster(nodes.address, 0.5, "cpu").room() == 6
        results = RayCluster(nodes.address, 0.5, "auto").score(job(space), every, 1)
        next(results)
        assert ray.available_resources()["GPU"] == 0.5
        results.close()
    finally:
        nodes.cluster.remove_node(node, allow_graceful=False)


def test_a_space_that_only_this_process_knows_is_scored(fresh):
    class Local(TinySpace):
        pass

    archs = list(Local().enumerate())
    expected = fresh(TinySpace(), workers="inline").values(archs, "params")
    assert np.array_equal(fresh(Local()).values(archs, "params"), expected)


def test_a_space_that_cannot_be_pickled_is_refused(fresh, tmp_path):
    space = TinySpace()
    with (
        (tmp_path / "file").open("w") as space.file,
        pytest.raises(UsageError, match=r"service\.workers=ray needs a space that can be"),
    ):
        fresh(space).values(list(space.enumerate()), "params")


class Distant(TinySpace):
    """Cannot be unpickled but here."""

    def __reduce__(self):
        return _here, (os.getpid(),)


def _here(pid):
    if pid != os.getpid():
        raise ModuleNotFoundError("No module named 'mine'")
    return Distant()


def test_a_worker_that_cannot_start_is_told(fresh):
    space = Distant()
    with pytest.raises(UsageError, match=r"could not start a worker .*No module named 'mine'"):
        fresh(space).values(list(space.enumerate()), "params")


def test_what_the_engine_refuses_is_told(nodes):
    results = RayCluster(nodes.address, 0.5, "cpu").score(
        job(TinySpace(), device="cuda"), [Chunk((), ())], 1
    )
    with pytest.raises(UsageError, match=r"service\.device=cuda needs an NVIDIA GPU"):
        next(results)


def test_a_cluster_without_room_is_told(nodes):
    with pytest.raises(UsageError, match=r"takes one CPU and 0\.5 of a GPU"):
        RayCluster(nodes.address, 0.5, "cuda").room()


def test_an_actor_ends_with_the_run(fresh, nodes, tmp_path):
    (folder := tmp_path / "workers").mkdir()
    space = Watched(folder)
    every = chunks(fresh(space), space)
    results = RayCluster(nodes.address, 0.25, "cpu").score(job(space), every, 2)
    first = next(results)
    assert np.array_equal(
        first.scores.values, next(inline(job(space), [first.chunk])).scores.values
    )
    results.close()
    for pid in space.workers() - {os.getpid()}:
        wait_for_end(pid)


def wait_for_end(pid, seconds=20):
    for _ in range(seconds * 10):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} goes on")
