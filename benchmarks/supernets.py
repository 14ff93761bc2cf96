"""What scoring one perturbed supernet costs: in a pass for all of a place, and each from scratch.

``python -m benchmarks.supernets [--space NAME] [--batch N]`` scores, by naswot_eval, the removals
of every operation of some places of a supernet, both ways in turn on one thread, and prints CPU
seconds a removal, medians over places.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np

from proxies import registry
from proxies.batch import pictures
from proxies.workers import Chunk, Job
from spaces.base import SearchSpace
from spaces.darts import DARTS
from spaces.initial_weights import InitialWeights
from spaces.mobilenet import Proxyless
from spaces.nasbench1shot1 import NASBench1Shot1
from spaces.nasbench201 import NASBench201
from spaces.nasbench_macro import NASBenchMacro
from spaces.supernets import Place, Supernets

SPACES: dict[str, Callable[[], SearchSpace]] = {
    "nasbench201": NASBench201,
    "nasbench_macro": NASBenchMacro,
    "nasbench1shot1": NASBench1Shot1,
    "darts": lambda: DARTS("s2", table="none"),
    "proxyless": Proxyless,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--space", choices=SPACES, default="nasbench201")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--places", type=int, default=6)
    wanted = parser.parse_args(arguments)
    base = SPACES[wanted.space]()
    space = Supernets(base)
    job = Job(space, pictures(space, size=wanted.batch), InitialWeights(), False, "cpu", "float32")
    proxies = (registry.get("naswot_eval"),)
    several = [p for p, place in enumerate(base.places) if len(place.choices) > 1]
    chosen = [several[i] for i in np.linspace(0, len(several) - 1, wanted.places).astype(int)]
    job.run(Chunk(tuple(_removals(space, chosen[0])), proxies))  # draws the supernet, warms up
    together, alone = [], []
    for place in chosen:
        archs = tuple(_removals(space, place))
        began = time.process_time()
        job.run(Chunk(archs, proxies))
        between = time.process_time()
        for arch in archs:
            job.run(Chunk((arch,), proxies))
        together.append((between - began) / len(archs))
        alone.append((time.process_time() - between) / len(archs))
    ours, scratch = float(np.median(together)), float(np.median(alone))
    print(
        f"{wanted.space}, {wanted.batch} pictures: {1000 * ours:.0f} ms a removal together, "
        f"{1000 * scratch:.0f} ms from scratch: {scratch / ours:.2f} times as fast"
    )


def _removals(space: Supernets, place: int) -> list[tuple[int, ...]]:
    """Take each operation of one place out of the whole supernet."""
    supernet = list(space.decode(space.whole))
    operations, of = supernet[place]
    found = []
    for removed in operations:
        supernet[place] = Place(tuple(o for o in operations if o != removed), of)
        found.append(space.encode(tuple(supernet)))
    return found


if __name__ == "__main__":
    main()
