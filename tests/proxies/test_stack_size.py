"""How many networks run as one on a GPU, on one whose memory is made up."""

import contextlib
import multiprocessing
import pickle

import numpy as np
import pytest
import torch

from proxies import ScoringService, registry, stack_size, workers
from proxies.batch import gaussian
from proxies.engine import Scores
from proxies.failures import OUT_OF_MEMORY
from proxies.stack_size import StackSize
from proxies.workers import CHUNK, GPU_CHUNK, Chunk, Job
from spaces.initial_weights import InitialWeights
from spaces.nasbench201.space import NASBench201

GIB = 2**30
SPACE = NASBench201("cifar10", channels=4, cells=1)


class Gpu:
    """``size`` bytes of memory, of which other processes hold ``others``."""

    def __init__(self, monkeypatch, size=80 * GIB, others=0):
        self.size, self.others, self.peak, self.count = size, others, 0, 1
        self.clock = 0.0
        monkeypatch.setattr(stack_size, "perf_counter", lambda: self.clock)
        for name in (
            "is_available",
            "device_count",
            "mem_get_info",
            "memory_reserved",
            "memory_allocated",
            "max_memory_allocated",
            "reset_peak_memory_stats",
        ):
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))

    def is_available(self):
        return True

    def device_count(self):
        return self.count

    def mem_get_info(self):
        return self.size - self.others - self.peak, self.size

    def memory_reserved(self):
        return self.peak  # torch keeps what it has freed

    def memory_allocated(self):
        return 0

    def max_memory_allocated(self):
        return self.risen

    def reset_peak_memory_stats(self):
        self.risen = 0

    def take(self, wanted):
        """Take memory for a while; say whether there was as much."""
        self.risen = min(wanted, self.size - self.others)
        self.peak = max(self.peak, self.risen)
        return wanted <= self.size - self.others


@pytest.fixture
def gpu(monkeypatch):
    return Gpu(monkeypatch)


def run(learnt, gpu, networks, each=GIB, seconds=1.0):
    with learnt.watch("passes", networks):
        gpu.clock += seconds
        return gpu.take(networks * each)


def test_the_first_network_tells_what_one_takes_and_few_more_go_on_from_there(gpu):
    learnt, sizes = StackSize(), []
    for _ in range(5):
        sizes.append(learnt.networks("passes"))
        assert run(learnt, gpu, sizes[-1])
    assert sizes == [1, 4, 16, 64, 64]  # of 80, 80 % are spoken for
    assert learnt.networks("other passes") == 1


def test_a_light_first_network_does_not_fill_the_memory(gpu):
    learnt = StackSize()
    run(learnt, gpu, 1, each=GIB // 100)
    assert learnt.networks("passes") == 4
    run(learnt, gpu, 4, each=8 * GIB)
    assert learnt.networks("passes") == 8


def test_as_many_run_as_one_as_are_fastest(gpu):
    learnt, sizes = StackSize(), []
    for _ in range(6):
        sizes.append(learnt.networks("passes"))
        run(learnt, gpu, sizes[-1], seconds=1 + (sizes[-1] / 8) ** 2)
    assert sizes == [1, 4, 16, 16, 4, 4]  # 16 once more: it may have been slow by chance


def test_a_slow_first_run_is_no_reason_to_stop(gpu):
    learnt, sizes = StackSize(), []
    for seconds in (1, 1, 20, 2, 2):
        sizes.append(learnt.networks("passes"))
        run(learnt, gpu, sizes[-1], seconds=seconds)
    assert sizes == [1, 4, 16, 16, 64]


@pytest.mark.parametrize(("share", "others", "expected"), [(0.25, 0, 16), (1, 40 * GIB, 32)])
def test_it_keeps_to_its_share_and_to_what_is_free(gpu, share, others, expected):
    gpu.others = others
    learnt = StackSize(share)
    for _ in range(4):
        assert run(learnt, gpu, learnt.networks("passes"))
    assert learnt.networks("passes") == expected


class Engine:
    """Takes ``each`` bytes for a network of a stack on ``gpu``, and notes how many there were."""

    def __init__(self, gpu, each):
        self.gpu, self.each, self.sizes = gpu, each, []
        self.device = torch.device("cuda")

    def session(self):
        return contextlib.nullcontext()

    def score(self, stack, batch, proxies):
        self.sizes.append(stack.size)
        self.gpu.clock += 1
        fits = self.gpu.take(stack.size * self.each(len(self.sizes)))
        values = np.full((stack.size, len(proxies)), 1.0 if fits else np.nan)
        failures = {(row, p.name): OUT_OF_MEMORY for row in range(stack.size) for p in proxies}
        return Scores(values, np.zeros_like(values), {} if fits else failures)


def scored(gpu, each):
    """Score a chunk on ``gpu``; return the scores, and how many networks ran as one in turn."""
    job = Job(SPACE, gaussian(SPACE, size=2), InitialWeights(), False, "cuda", "float32")
    vars(job)["engine"] = engine = Engine(gpu, each)
    archs = SPACE.sample(np.random.default_rng(0), GPU_CHUNK)
    scores = job.run(Chunk(tuple(archs), (registry.get("snip"),))).scores
    return scores, engine.sizes


def test_a_job_fills_the_memory(gpu):
    scores, sizes = scored(gpu, lambda _: 2 * GIB)
    assert np.isfinite(scores.values).all()
    assert sizes == [1, 4, 16, 32, 11]


def test_a_job_runs_fewer_networks_where_they_did_not_fit(gpu):
    scores, sizes = scored(gpu, lambda call: GIB if call < 4 else 4 * GIB)
    assert np.isfinite(scores.values).all()
    assert sizes[:4] == [1, 4, 16, 43]  # which did not fit
    assert max(sizes[4:]) * 4 * GIB <= gpu.size
    assert sum(sizes) - 43 == GPU_CHUNK


def test_a_network_that_does_not_fit_alone_has_its_reason(gpu):
    scores, sizes = scored(gpu, lambda _: 100 * GIB)
    assert np.isnan(scores.values).all()
    assert set(scores.reasons.values()) == {OUT_OF_MEMORY}
    assert len(scores.reasons) == GPU_CHUNK
    assert set(sizes) == {1}


def test_chunks_are_larger_where_networks_run_as_one(monkeypatch):
    def sizes(**settings):
        service = ScoringService(SPACE, store="memory", **settings)
        return service._chunk_size(1000)

    assert sizes(device="auto") == sizes(device="cpu") == CHUNK
    assert sizes(device="cpu", stack=40) == 40
    Gpu(monkeypatch)
    assert sizes(device="auto") == sizes(device="cuda") == GPU_CHUNK
    assert sizes(device="cpu") == CHUNK


@pytest.mark.parametrize(("gpus", "share", "expected"), [(1, 0.25, 4), (2, 1.0, 2), (3, 0.1, 16)])
def test_workers_share_gpus(gpu, monkeypatch, gpus, share, expected):
    monkeypatch.setattr(workers, "cores", lambda: 16)
    gpu.count = gpus
    assert workers.room("auto", share) == expected
    assert workers.room("cpu", share) == 16


def test_workers_take_gpus_in_turn(gpu, monkeypatch):
    gpu.count, taken = 2, []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(workers, "_job", None, raising=False)
    job = Job(SPACE, gaussian(SPACE, size=2), InitialWeights(), False, "cuda", "float32")
    begun = multiprocessing.get_context("spawn").Value("i", 0)
    for _ in range(3):
        workers._initialise(pickle.dumps(job), begun)
    assert taken == [0, 1, 0]
