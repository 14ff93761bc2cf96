"""Nothing but data crosses between devices: shown without a GPU, on a simulated device."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.simulated_device import DEVICE, simulated_device
from proxies import registry
from proxies.batch import gaussian
from proxies.engine import ProxyEngine
from proxies.service import ScoringService
from proxies.stack import Grouped, Single
from proxies.workers import Chunk, Job
from spaces.initial_weights import InitialWeights
from spaces.nasbench201.space import NASBench201

SPACE = NASBench201("cifar10", channels=4, cells=1)
BATCH = gaussian(SPACE, size=6)
WEIGHTS = InitialWeights()
ARCHS = [(3, 2, 1, 4, 3, 2), (1, 1, 1, 1, 1, 1), (2, 3, 4, 0, 1, 3), (0, 3, 3, 3, 2, 4)]
NAMES = sorted(name for name in registry.names() if registry.get(name).epochs is None)
SEVEN = ("grad_norm", "snip", "grasp", "fisher", "plain", "jacob_cov", "synflow")


def engine(device="cpu"):
    made = ProxyEngine("cpu", dtype="float64")
    made.device = torch.device(device)
    return made


def alone():
    return Single(WEIGHTS.network(SPACE, ARCHS[0], running_stats=False))


def grouped(archs=ARCHS):
    return Grouped(SPACE.grouped_network(archs, WEIGHTS))


@pytest.mark.parametrize("stack", [alone, grouped])
@pytest.mark.parametrize("name", NAMES)
def test_scores_are_those_of_the_cpu(name, stack):
    proxies = [registry.get(name)]
    expected = engine().score(stack(), BATCH, proxies)
    if stack is alone and name != "eznas_nasnet":  # which has no value for so small a network
        assert np.isfinite(expected.values).all()
    with simulated_device():
        found = engine(DEVICE).score(stack(), BATCH, proxies)
    assert found.reasons == expected.reasons
    assert np.allclose(found.values, expected.values, rtol=1e-6, equal_nan=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
class TestAGpu:
    """The same on a real one."""

    @pytest.mark.parametrize("stack", [alone, grouped])
    @pytest.mark.parametrize("name", NAMES)
    def test_scores_are_those_of_the_cpu(self, name, stack):
        proxies = [registry.get(name)]
        expected = engine().score(stack(), BATCH, proxies)
        found = engine("cuda").score(stack(), BATCH, proxies)
        assert found.reasons == expected.reasons
        assert np.allclose(found.values, expected.values, rtol=1e-5, equal_nan=True)

    @pytest.mark.parametrize("workers", ["inline", "processes"])
    def test_the_service_scores_there(self, workers):
        archs = SPACE.sample(np.random.default_rng(0), 200)
        names = ["snip", "grasp", "jacob_cov", "naswot", "synflow", "az_trainability"]
        settings = {"batch": BATCH, "store": "memory", "dtype": "float64"}
        there = ScoringService(SPACE, device="cuda", workers=workers, **settings)
        here = ScoringService(SPACE, device="cpu", **settings)
        found, expected = there.score(archs, names), here.score(archs, names)
        assert found.reasons == expected.reasons
        assert np.allclose(found.values, expected.values, rtol=1e-4, equal_nan=True)


@pytest.mark.parametrize("networks", [1, 4])
def test_the_host_waits_for_a_device_a_few_times_for_all_networks(networks):
    with simulated_device() as calls:
        scores = engine(DEVICE).score(
            grouped(ARCHS[:networks]), BATCH, [registry.get(name) for name in SEVEN]
        )
    assert np.isfinite(scores.values).all()
    assert calls.launches > 500
    assert calls.waits.total() <= len(SEVEN)


def test_a_job_scores_on_a_device():
    job = Job(SPACE, BATCH, WEIGHTS, False, "cpu", "float64", stack=3)
    chunk = Chunk(tuple(ARCHS), tuple(registry.get(name) for name in (*SEVEN, "zen", "flops")))
    expected = job.run(chunk).scores
    moved = dataclasses.replace(job)
    vars(moved)["engine"] = engine(DEVICE)
    with simulated_device() as calls:
        found = moved.run(chunk).scores
    assert calls.launches
    assert found.reasons == expected.reasons
    assert np.allclose(found.values, expected.values, rtol=1e-6, equal_nan=True)


class TestTheSimulatedDevice:
    """It refuses what a GPU refuses: else nothing above would show anything."""

    def test_operations_on_both_devices_are_refused(self):
        with simulated_device():
            there, here = torch.ones(3, device=DEVICE), torch.ones(3)
            for mixed in (torch.add, torch.dot):
                with pytest.raises(RuntimeError, match="all tensors on meta, but got one on cpu"):
                    mixed(there, here)
            with pytest.raises(RuntimeError, match="all tensors on meta"):
                here.index_add_(0, torch.tensor([0]), there[:1])

    def test_a_network_left_on_the_cpu_is_refused(self):
        with simulated_device(), pytest.raises(RuntimeError, match="all tensors on meta"):
            torch.nn.Conv2d(3, 4, 3)(torch.ones(1, 3, 8, 8, device=DEVICE))

    def test_lone_numbers_and_indices_may_come_from_the_cpu(self):
        with simulated_device():
            there = torch.arange(3.0, device=DEVICE)
            assert float((there * torch.tensor(2.0))[torch.tensor([2])]) == 4

    def test_arrays_are_not_to_be_had(self):
        with simulated_device():
            there = torch.ones(2, device=DEVICE)
            with pytest.raises(TypeError, match=r"use Tensor\.cpu"):
                there.numpy()
            assert there.cpu().numpy().tolist() == [1, 1]

    def test_gradients_are_those_of_the_cpu(self):
        weight = torch.randn(4, 3, 3, 3, dtype=torch.float64)
        images = torch.randn(2, 3, 8, 8, dtype=torch.float64)

        def gradient(weight, images):
            weight = weight.detach().clone().requires_grad_()
            output = torch.nn.functional.conv2d(images, weight).relu().square().mean()
            return torch.autograd.grad(output, weight)[0]

        with simulated_device() as calls:
            there = gradient(weight.to(DEVICE), images.to(DEVICE))
            assert there.device == DEVICE
            assert not calls.waits
            assert torch.equal(there.cpu(), gradient(weight, images))
            assert calls.waits.total() == 1
