"""A benchmark that really trains the networks of a space."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import math
import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from analysis.files import replacing, write_json, write_text
from conf.errors import UsageError, at_least, unknown_name
from spaces.base import Architecture, SearchSpace
from spaces.benchmark import Benchmark, Evaluation
from spaces.costs import Cost, counted

if TYPE_CHECKING:
    import torch
    from torch import nn

    from spaces.training_crew import Crew
    from spaces.training_data import Data
    from spaces.training_loop import Pictures, Watcher

VERSION: Final = 1
"""To be raised with every change that makes a training come out differently."""

_DEVICES: Final = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class Recipe:
    """How to train; :class:`TrainingBenchmark` says what the settings mean.

    Raises :class:`UsageError` for values that are not possible.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    augment: bool

    def __post_init__(self) -> None:
        at_least(1, "benchmark", epochs=self.epochs, batch_size=self.batch_size)
        if not 0 < self.learning_rate < math.inf:
            raise UsageError(
                f"benchmark.learning_rate={self.learning_rate} must be positive and finite."
            )
        if not 0 <= self.weight_decay < math.inf:
            raise UsageError(
                f"benchmark.weight_decay={self.weight_decay} must be 0 or more, and finite."
            )


class TrainingBenchmark(Benchmark):
    """Trains each architecture's network on pictures and measures its accuracy.

    By default as NAS-Bench-201 trained (Dong and Yang, "NAS-Bench-201: Extending the Scope of
    Reproducible Neural Architecture Search", ICLR 2020): SGD with Nesterov momentum .9,
    weight decay 5e-4 on all parameters, a learning rate that falls from .1 to 0 along a cosine,
    200 epochs of minibatches of 256, pictures flipped half of the time and cropped from a black
    border of 4 of 32 pixels, cross entropy. The accuracies are those after the last epoch.

    Deviations: (1) an epoch is cut into minibatches of equal size (to one picture) instead of a
    last one that is smaller; (2) the division into training and validation pictures is drawn by
    Assay, not the authors'; (3) one training, decided by ``seed``, stands for an architecture.

    A training depends on the settings, the pictures, the space's network and the architecture,
    and on nothing else; on a GPU up to the kernels that torch has no deterministic form of.
    Its state is written after each epoch and its result when it ends, under ``directory``; whoever
    asks for the same training there goes on from that.

    Args:
        space: whose networks are trained.
        data: see :func:`spaces.training_data.read`; None for the 640 pictures that come with
            Assay, enough to try things out.
        held_out: the share of pictures that is not trained on.
        epochs: how often all training pictures are seen.
        batch_size: pictures of one step.
        learning_rate: of the first step.
        weight_decay: of all parameters.
        augment: whether training pictures are cropped and flipped.
        seed: of initial weights, order and augmentation, together with the architecture.
        device: auto, cpu or cuda.
        directory: of weights and results; None for ``trainings`` beside the store of scores.
        at_once: how many architectures a search proposes at a time, to be trained side by side in
            as many processes, over the GPUs or the cores of this machine.
        tensorboard: whether each training also writes its curves for TensorBoard, by epoch: loss,
            learning rate, validation accuracy.

    Raises :class:`UsageError` for settings that are not possible, for pictures that cannot be read
    or are not those of ``space``, and for a directory that cannot be written.
    """

    def __init__(
        self,
        space: SearchSpace,
        data: str | None = None,
        held_out: float = 0.5,
        epochs: int = 200,
        batch_size: int = 256,
        learning_rate: float = 0.1,
        weight_decay: float = 5e-4,
        augment: bool = True,
        seed: int = 0,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        directory: str | None = None,
        at_once: int = 1,
        tensorboard: bool = False,
    ) -> None:
        from spaces.training_data import read

        if seed < 0:
            raise UsageError(f"benchmark.seed={seed} must not be negative.")
        at_least(1, "benchmark", at_once=at_once)
        if tensorboard and importlib.util.find_spec("tensorboard") is None:
            raise UsageError(
                "benchmark.tensorboard=true needs TensorBoard, which is not installed; run "
                "pip install 'assay[tensorboard]'."
            )
        self.space, self.held_out, self.seed = space, held_out, seed
        self.recipe = Recipe(epochs, batch_size, float(learning_rate), float(weight_decay), augment)
        self.device = device_of(device, "benchmark")
        self.at_once, self.tensorboard = at_once, tensorboard
        self.data: Data = read(data, held_out, space)
        self._folder = _writable(directory) / f"{space.name}-{self._fingerprint()[:16]}"
        self._journal = Results(self._folder / "results.jsonl")
        self._make = functools.partial(
            TrainingBenchmark,
            space,
            data=data,
            held_out=held_out,
            **asdict(self.recipe),
            seed=seed,
            device=device,
            directory=directory,
            tensorboard=tensorboard,
        )

    def evaluate(self, arch: Architecture, rng: np.random.Generator | None = None) -> Evaluation:
        """Train ``arch``, or return what its training came to; takes nothing from ``rng``.

        Raises :class:`UsageError` for an architecture that is not of the space, and for a
        checkpoint that is damaged.
        """
        self._check_valid(arch)
        notation = self.space.format(arch)
        found = self._journal.find(notation)
        if found is None:
            from spaces.training_loop import accuracy

            network, seconds = self._trained(arch)
            val, test = (
                accuracy(network, self._pictures[part], self.recipe.batch_size)
                for part in ("validation", "test")
            )
            found = Evaluation(val, val, test, seconds)
            self._journal.add(notation, found)
        return found

    def evaluate_all(
        self, archs: Sequence[Architecture], rngs: Iterable[np.random.Generator] = ()
    ) -> list[Evaluation]:
        """Train what of ``archs`` is not trained yet, several at once; return all outcomes."""
        for arch in archs:
            self._check_valid(arch)
        wanted = dict.fromkeys(archs)
        left = [a for a in wanted if self._journal.find(self.space.format(a)) is None]
        if self.at_once > 1 and len(left) > 1:
            self._crew.train(left)
        return [self.evaluate(arch) for arch in archs]

    @functools.cached_property
    def _crew(self) -> Crew:
        from spaces.training_crew import Crew

        return Crew(self._make, self.at_once)

    def cost(self, kind: str, device: str | None = None) -> Cost:
        """Count parameters or operations on the networks; nothing else is known."""
        return counted(self.space, kind, side=self.data.train.images.shape[-1])

    def describe(self) -> dict[str, Any]:
        """Return kind, pictures and their numbers, recipe and seed."""
        parts = (self.data.train, self.data.validation, self.data.test)
        return {
            "kind": "training",
            "data": self.data.source,
            "dataset": self.space.dataset,
            "pictures": "{} to train, {} to validate, {} to test".format(*map(len, parts)),
            **asdict(self.recipe),
            "seed": self.seed,
            "validation": "one run",
            "test": "one run",
        }

    def export(self, arch: Architecture, directory: Path | str) -> list[Path]:
        """Write the trained network of ``arch`` for use elsewhere; return the files.

        ``notation.txt`` is the architecture in the space's notation, ``state_dict.pt`` the weights
        for ``space.network(arch, classes=…)``, ``model.onnx`` the network in evaluation mode, for
        any number of normalised pictures. Where torch's ONNX export lacks a package or cannot
        express the network, a ``UserWarning`` says why there is no ``model.onnx``.

        It is trained first if it was not yet.
        """
        import torch

        self._check_valid(arch)
        network = self._trained(arch)[0].cpu()
        folder = Path(directory)
        files = [folder / "notation.txt", folder / "state_dict.pt"]
        write_text(files[0], self.space.format(arch) + "\n")
        with replacing(files[1]) as temporary:
            torch.save(network.state_dict(), temporary)
        model = folder / "model.onnx"
        model.unlink(missing_ok=True)
        inputs, _ = self._pictures["validation"].batch(torch.arange(2))
        problem = _export_onnx(network, inputs.cpu(), model)
        if problem is None:
            return [*files, model]
        warnings.warn(f"{model} was not written: {problem}.", stacklevel=2)
        return files

    def _trained(self, arch: Architecture) -> tuple[nn.Module, float]:
        """Return the network of ``arch`` after its training, and the seconds that it took."""
        from spaces.training_loop import train

        if not (self._folder / "settings.json").exists():
            write_json(self._folder / "settings.json", self._key())
        notation = self.space.format(arch)
        name = hashlib.sha256(notation.encode()).hexdigest()
        seed = hashlib.sha256(f"{self.seed} {notation}".encode()).digest()
        return train(
            lambda: self.space.network(arch, classes=self.data.classes),
            self._pictures["train"],
            self.recipe,
            int.from_bytes(seed[:8], "big") >> 1,
            self._folder / f"{name[:24]}.pt",
            self._curves(name[:24], notation) if self.tensorboard else None,
        )

    def _curves(self, name: str, notation: str) -> Watcher:
        """Return what writes the curves of one training."""
        from spaces.training_loop import curves

        return curves(
            self._folder / "tensorboard" / name,
            notation,
            self._pictures["validation"],
            self.recipe.batch_size,
        )

    @functools.cached_property
    def _pictures(self) -> dict[str, Pictures]:
        from spaces.training_loop import Pictures

        return {
            name: Pictures(part, self.data, self.space.image_size, self.device)
            for name, part in (
                ("train", self.data.train),
                ("validation", self.data.validation),
                ("test", self.data.test),
            )
        }

    def _key(self) -> dict[str, Any]:
        """Everything besides the architecture that decides a training."""
        return {
            "version": VERSION,
            "network": self.space.network_key() | {"classes": self.data.classes},
            "pictures": self.data.fingerprint,
            "side": self.space.image_size,
            "mean": self.data.mean.tolist(),
            "std": self.data.std.tolist(),
            "held_out": self.held_out,
            **asdict(self.recipe),
            "seed": self.seed,
        }

    def _fingerprint(self) -> str:
        text = json.dumps(self._key(), sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()

    def _check_valid(self, arch: Architecture) -> None:
        if not self.space.is_valid(arch):
            raise UsageError(f"{arch} is no architecture of {self.space.name}.")


class Results:
    """Outcomes of finished trainings in a file, one line of JSON each.

    Several processes may add lines. A line that a kill tore off counts as missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Evaluation] = {}

    def find(self, notation: str) -> Evaluation | None:
        """Return the outcome of one architecture, if its training has finished."""
        if notation not in self._known and self.path.exists():
            for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
                try:
                    name, *values = json.loads(line)
                    val, test, seconds = map(float, values)
                except (ValueError, TypeError):
                    continue
                self._known[name] = Evaluation(val, val, test, seconds)
        return self._known.get(notation)

    def add(self, notation: str, found: Evaluation) -> None:
        """Append one outcome; a torn line before it stays a line of its own."""
        self._known[notation] = found
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps([notation, found.val, found.test, found.train_seconds]) + "\n"
        with self.path.open("ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                line = line if file.read(1) == b"\n" else "\n" + line
            file.write(line.encode())


def device_of(name: str, group: str) -> torch.device:
    """Return the device of the setting ``device`` of ``group``: auto, cpu or cuda."""
    import torch

    if name not in _DEVICES:
        raise unknown_name(f"{group}.device", name, _DEVICES)
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError(f"{group}.device=cuda is not possible: torch sees no GPU; give cpu.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def _writable(directory: str | None) -> Path:
    """Return the directory of trainings, which is made only when something is written."""
    from proxies.store import default_path

    place = Path(directory).expanduser() if directory else default_path().parent / "trainings"
    existing = next(p for p in (place, *place.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"benchmark.directory={place} cannot be written; give another.")
    return place


def _export_onnx(network: nn.Module, inputs: torch.Tensor, path: Path) -> str | None:
    """Write ``network`` to ``path``; return why that was not possible, or None."""
    import torch

    try:
        program = torch.onnx.export(
            network,
            (inputs,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("pictures")},),
            verbose=False,
        )
        assert program is not None
        with replacing(path) as temporary:
            program.save(str(temporary), external_data=False)
    except (ImportError, RuntimeError, TypeError, ValueError) as error:
        if isinstance(error, ImportError):
            return f"it needs more packages, run pip install 'assay[onnx]' ({error})"
        return f"torch's export to ONNX failed: {str(error).splitlines()[0].rstrip('.')}"
    return None
