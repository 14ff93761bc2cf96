"""How good scores are with weights of each architecture's own, and with weights that all share.

``python -m benchmarks.initialisation [--architectures N] [--grasp N] [--batch N] [--seeds N]``
scores random NAS-Bench-201 cells with each ``service.init`` and seed. It prints, for each proxy and
init, Spearman's correlation with CIFAR-10 test accuracy (mean over seeds, and their standard
deviation) and between the scores of two seeds (mean over pairs of seeds). Scores are kept in the
usual store: the command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import functools
import itertools
from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from analysis.ranks import spearman
from proxies.batch import pictures
from proxies.service import ScoringService
from spaces.initial_weights import INITS
from spaces.nasbench201.space import NASBench201

PROXIES = ("grad_norm", "snip", "fisher", "plain", "jacob_cov", "naswot", "synflow")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print one line for each proxy and init."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--architectures", type=int, default=2000)
    parser.add_argument("--grasp", type=int, default=300, help="of them, for grasp")
    parser.add_argument("--batch", type=int, default=16, help="pictures of the minibatch")
    parser.add_argument("--seeds", type=int, default=3)
    wanted = parser.parse_args(arguments)
    space = NASBench201("cifar10")
    archs = space.sample(np.random.default_rng(0), wanted.architectures)
    accuracy = space.column("test_200")[space.table().rows(archs)]
    batch = functools.partial(pictures, size=wanted.batch)
    scores: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    for seed, init in itertools.product(range(wanted.seeds), INITS):
        service = ScoringService(
            space,
            batch=batch,
            workers="processes",
            seed=seed,
            init=init,  # type: ignore[arg-type]
            device="cpu",
            shipped=False,
            progress=True,
        )
        table = service.score(archs, PROXIES)
        for name in PROXIES:
            scores.setdefault((name, init), []).append(table.column(name))
        some = service.score(archs[: wanted.grasp], ["grasp"])
        scores.setdefault(("grasp", init), []).append(some.column("grasp"))
        service.close()
    print(
        f"{len(archs)} cells (grasp {wanted.grasp}), {wanted.batch} pictures, {wanted.seeds} seeds"
    )
    print(f"{'':<22}with accuracy, +- over seeds     between seeds")
    for (name, init), columns in sorted(scores.items()):
        rhos = [_spearman(column, accuracy[: len(column)]) for column in columns]
        alike = [_spearman(one, other) for one, other in itertools.combinations(columns, 2)]
        print(
            f"{name:<10} {init:<12} {np.mean(rhos):6.3f} +- {np.std(rhos):.3f}"
            f"{cast('float', np.mean(alike)):26.3f}"
        )


def _spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Correlate where both have a value."""
    known = np.isfinite(one) & np.isfinite(other)
    return spearman(one[known], other[known])


if __name__ == "__main__":
    main()
