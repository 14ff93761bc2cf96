"""A process that keeps its memory is given few fresh pages for its next network."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from proxies import score_model
from proxies.memory import keep_memory
from spaces.nasbench201 import NASBench201
if {keep}:
    keep_memory()
network = NASBench201("cifar10").network((3, 3, 3, 3, 3, 3), running_stats=False)
inputs, targets = torch.randn(32, 3, 32, 32), torch.arange(32) % 10
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    score_model(network, inputs, targets, ["snip", "jacob_cov"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep):
    program = [sys.executable, "-c", PROGRAM.format(keep=keep)]
    return int(subprocess.run(program, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the setting is glibc's")
def test_memory_is_used_again():
    assert faults(keep=True) < faults(keep=False) / 4
