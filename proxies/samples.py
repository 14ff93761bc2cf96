"""Statistics of many networks, sampled and kept on disk, for programs to be evaluated on at once.

The tensors of a unit are cut to a few examples, channels and pixels, from the first on, so that
units of all networks have few different shapes and go through an operation together. Means are
those of the sample, and sums are extrapolated from it; determinants are those of the pixels kept.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from analysis.files import replacing, write_text
from conf.errors import UsageError
from proxies.batch import Minibatch
from proxies.engine import ProxyEngine
from proxies.failures import describe, of_the_machine
from proxies.passes import Run
from proxies.passes.statistics import Statistics, Unit
from proxies.stack import Single
from spaces.base import Architecture, SearchSpace
from spaces.initial_weights import InitialWeights
from spaces.proxy_programs.formula import SCENARIOS, TERMINALS
from spaces.proxy_programs.operations import Values

_VERSION: Final = 1
_FAMILIES: Final = ("weight", "input", "preactivation", "activation")
Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Cut:
    """How much of each tensor is kept: examples and channels at most, and the side of pictures."""

    examples: int = 2
    channels: int = 4
    side: int = 8

    def of(self, tensor: Tensor, family: str) -> Tensor:
        """Cut one tensor: a weight [out, in, ...] or features [N, channels, ...]."""
        first = self.channels if family == "weight" else self.examples
        sides = [slice(None if family == "weight" else self.side)] * (tensor.dim() - 2)
        return tensor[(slice(first), slice(self.channels), *sides)]


class Samples:
    """The sampled statistics of K networks, memory-mapped.

    ``groups`` are for :func:`spaces.proxy_programs.evaluation.evaluate`; ``networks`` is K.
    """

    def __init__(self, groups: Sequence[SampledUnits], networks: int) -> None:
        self.groups, self.networks = list(groups), networks

    def of(self, chosen: NDArray[np.int64]) -> Samples:
        """Return the samples of some of the networks alone, numbered anew in their order."""
        return Samples([part for g in self.groups if (part := g.of(chosen))], len(chosen))


class SampledUnits:
    """Units of the same cut shapes. See :class:`spaces.proxy_programs.evaluation.Units`."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self.networks = torch.from_numpy(arrays["networks"])
        self.alive = torch.from_numpy(arrays["alive"])

    def terminal(self, name: str) -> Values:
        """Return one statistic of each unit."""
        family = name.split("_", maxsplit=1)[0]
        return Values(
            torch.from_numpy(self._arrays[name]), torch.from_numpy(self._arrays[f"{family}_count"])
        )

    def of(self, chosen: NDArray[np.int64]) -> SampledUnits | None:
        """Return the units of some networks; None where they have none."""
        places = np.full(int(max(self.networks.max(), chosen.max())) + 1, -1)
        places[chosen] = np.arange(len(chosen))
        owners = places[self._arrays["networks"]]
        kept = owners >= 0
        if not kept.any():
            return None
        arrays = {name: array[kept] for name, array in self._arrays.items()}
        return SampledUnits(arrays | {"networks": owners[kept]})


def collect(
    space: SearchSpace,
    archs: Sequence[Architecture],
    batch: Minibatch,
    folder: Path,
    *,
    cut: Cut | None = None,
    statistics: Sequence[str] = TERMINALS,
    processes: int = 1,
    largest: float = 10.0,
    on_step: Callable[[int], None] | None = None,
) -> Samples:
    """Sample the statistics of the networks of ``archs``, or open what was sampled before.

    Each network is written as it is done, and not computed again after a kill. They are computed
    in ``processes`` processes, in this one if there is one. Several jobs may do so at once.

    Args:
        space: whose networks.
        archs: which; those that have no units have none in the samples, either.
        batch: the minibatch of data.
        folder: under which the samples of this space, these architectures and this batch get a
            folder of their own.
        cut: how much is kept.
        statistics: which are computed and kept.
        processes: how many.
        largest: gigabytes that the samples may take, judged by the first network.
        on_step: called with the number of networks that were added.

    Raises :class:`UsageError` where ``largest`` would be exceeded.
    """
    cut = cut or Cut()
    home = folder / _key(space, archs, batch, cut, statistics)
    if not (home / "done").exists():
        missing = [n for n in range(len(archs)) if not (home / f"{n}.npz").exists()]
        if on_step:
            on_step(len(archs) - len(missing))
        work = _Work(space, batch, home, cut, tuple(statistics))
        for done, size in enumerate(_run(work, [(n, archs[n]) for n in missing], processes)):
            needed = size * len(archs) / 1e9
            if done == 0 and needed > largest:
                raise UsageError(
                    f"the statistics of {len(archs)} networks of {space.name} would take "
                    f"{needed:.1f} GB; allow that many or sample fewer networks."
                )
            if on_step:
                on_step(1)
        try:
            _merge(home, len(archs))
        except FileNotFoundError:
            if not (home / "done").exists():  # else another job has merged them meanwhile
                raise
    return _open(home, len(archs))


def _key(
    space: SearchSpace,
    archs: Sequence[Architecture],
    batch: Minibatch,
    cut: Cut,
    statistics: Sequence[str],
) -> str:
    kept = vars(cut) | {"statistics": sorted(statistics)}
    words = [_VERSION, space.network_key(), batch.fingerprint, kept, list(map(list, archs))]
    text = json.dumps(words, sort_keys=True)
    return f"{space.name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclass(frozen=True)
class _Work:
    space: SearchSpace
    batch: Minibatch
    home: Path
    cut: Cut
    statistics: tuple[str, ...]

    def __call__(self, task: tuple[int, Architecture]) -> int:
        """Write the samples of one network; return their size in bytes.

        A network that fails has no units; where the machine fails, that is raised.
        """
        number, arch = task
        engine = ProxyEngine("cpu")
        arrays: Arrays = {}
        with engine.session():
            network = InitialWeights().network(self.space, arch, running_stats=False)
            stack = Single(network, memory_format=torch.channels_last)
            run = Run(stack, self.batch.to(engine.device, torch.float32), {"statistics"})
            try:
                arrays = _sampled(run.record("statistics"), self.cut, self.statistics)
            except (ValueError, RuntimeError) as error:
                if of_the_machine(describe(error)):
                    raise
        with replacing(self.home / f"{number}.npz") as draft, draft.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        return sum(array.nbytes for array in arrays.values())


def _run(work: _Work, tasks: Sequence[tuple[int, Architecture]], processes: int) -> Iterator[int]:
    if processes == 1 or len(tasks) < 2:
        yield from map(work, tasks)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, tasks)


def _sampled(statistics: Statistics, cut: Cut, names: Sequence[str]) -> Arrays:
    """Cut what is recorded of each unit; names in the files are ``unit/statistic``."""
    found: Arrays = {}
    gradients = any("gradient" in name for name in names)
    words = {word for name in names for word in name.split("_")}
    if "perturbed" in words:
        words.add("data")
    needed = [scenario for scenario in SCENARIOS if scenario in words] or ["noise"]
    recorded = {scenario: statistics.of(scenario, gradients=gradients) for scenario in needed}
    for place, unit in enumerate(recorded[needed[0]]):
        tensors = {"weight": unit.weight} | _scenarios(
            {scenario: units[place] for scenario, units in recorded.items()}
        )
        for name in names:
            kept = cut.of(tensors[name], name.split("_")[0])
            found[f"{place}/{name}"] = kept.contiguous().numpy()
        counts = [unit.weight.numel(), *(unit.recorded[f].numel() for f in _FAMILIES[1:])]
        for family, count in zip(_FAMILIES, counts, strict=True):
            found[f"{place}/{family}_count"] = np.array(count, np.float32)
        found[f"{place}/alive"] = np.array(unit.alive)
    return found


def _scenarios(units: dict[str, Unit]) -> dict[str, Tensor]:
    """Name every tensor of a unit; perturbed ones as differences."""
    return {
        f"{kind}_{scenario}": tensor - units["data"].recorded[kind]
        if scenario == "perturbed"
        else tensor
        for scenario, unit in units.items()
        for kind, tensor in unit.recorded.items()
    }


def _merge(home: Path, networks: int) -> None:
    """Write the units of all networks, those of the same shapes together, one file a statistic."""
    groups: dict[tuple[tuple[int, ...], ...], dict[str, list[NDArray[Any]]]] = {}
    for number in range(networks):
        with np.load(home / f"{number}.npz", allow_pickle=False) as file:
            units: dict[str, Arrays] = {}
            for name in file.files:
                place, _, statistic = name.partition("/")
                units.setdefault(place, {})[statistic] = file[name]
        for unit in units.values():
            shapes = tuple(array.shape for _, array in sorted(unit.items()))
            group = groups.setdefault(shapes, {})
            for name, array in (unit | {"networks": np.int64(number)}).items():
                group.setdefault(name, []).append(np.asarray(array))
    for place, group in enumerate(groups.values()):
        for name, arrays in group.items():
            with replacing(home / f"{place}-{name}.npy") as draft, draft.open("wb") as file:
                np.save(file, np.stack(arrays))
    write_text(home / "done", str(len(groups)))
    for number in range(networks):
        (home / f"{number}.npz").unlink(missing_ok=True)


def _open(home: Path, networks: int) -> Samples:
    groups = []
    for place in range(int((home / "done").read_text())):
        files = sorted(home.glob(f"{place}-*.npy"))
        # Copy on write: torch wants arrays that can be written to.
        arrays = {
            file.stem.partition("-")[2]: np.load(file, mmap_mode="c", allow_pickle=False)
            for file in files
        }
        groups.append(SampledUnits(arrays))
    return Samples(groups, networks)
