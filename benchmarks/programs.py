"""How fast proxy programs are evaluated, against the published way, in one run.

``python -m benchmarks.programs [--programs P] [--networks N]`` evaluates P random programs on N
networks of NATS-Bench size three ways: all networks at once on sampled statistics; a loop over
networks with their statistics at hand, uncut; and as the released code of EZNAS does, a loop over
networks that builds each and computes its statistics for each program. The last is timed for one
program, the second for a tenth of them. Seconds are those of the processor, on one thread, so that
a busy machine changes no ratio.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from proxies.batch import pictures
from proxies.engine import ProxyEngine
from proxies.passes import Run
from proxies.samples import collect
from proxies.stack import Single
from spaces.initial_weights import InitialWeights
from spaces.nats_size.space import NATSSize
from spaces.proxy_programs.evaluation import evaluate
from spaces.proxy_programs.formula import SCENARIOS, Node
from spaces.proxy_programs.space import ProxyPrograms


def per_second(programs: Sequence[Node], score: Callable[[Node], Any]) -> float:
    """Programs a second of the processor's."""
    began = time.process_time()
    for program in programs:
        score(program)
    return len(programs) / (time.process_time() - began)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print programs a second, and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--programs", type=int, default=100)
    parser.add_argument("--networks", type=int, default=20)
    given = parser.parse_args(arguments)
    rng = np.random.default_rng(0)
    language, space = ProxyPrograms(), NATSSize()
    programs = [language.program(arch) for arch in language.sample(rng, given.programs)]
    archs = list(dict.fromkeys(space.sample(rng, given.networks)))
    batch, engine = pictures(space), ProxyEngine("cpu")

    def recorded(arch: tuple[int, ...]) -> tuple[Run, list[Any]]:
        """Run a network; statistics last as long as the run that they are returned with."""
        network = InitialWeights().network(space, arch, running_stats=False)
        run = Run(Single(network), batch.to(engine.device, torch.float32), {"statistics"})
        statistics = run.record("statistics")
        for scenario in SCENARIOS:
            statistics.of(scenario)
        return run, list(statistics.groups())

    def published(program: Node) -> None:
        for arch in archs:
            _run, groups = recorded(arch)
            evaluate(program, groups, 1)

    with engine.session(), tempfile.TemporaryDirectory() as folder:
        samples = collect(space, archs, batch, Path(folder))
        at_hand = [recorded(arch) for arch in archs]
        rates = {
            "all at once, sampled": per_second(
                programs, lambda p: evaluate(p, samples.groups, samples.networks)
            ),
            "network by network": per_second(
                programs[: max(1, len(programs) // 10)],
                lambda p: [evaluate(p, groups, 1) for _, groups in at_hand],
            ),
            "the published way": per_second(programs[:1], published),
        }
    ours = rates["all at once, sampled"]
    for name, rate in rates.items():
        print(f"{name:22} {rate:10.3f} programs a second; ours are {ours / rate:.0f} times as fast")


if __name__ == "__main__":
    main()
