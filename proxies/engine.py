"""Runs passes on networks and proxies on what they recorded."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from conf.errors import UsageError, unknown_name
from proxies import registry
from proxies.batch import Minibatch
from proxies.failures import describe
from proxies.passes import Run
from proxies.passes.modes import training
from proxies.registry import Proxy
from proxies.stack import Output, Single, Stack
from proxies.torch_state import own_chance, usual_defaults

T = TypeVar("T")


class Scores(NamedTuple):
    """Scores of n networks by P proxies.

    ``values`` and ``seconds`` are float64 [n, P]; seconds are what each score takes on its own.
    ``reasons`` says in one sentence why (row, proxy name) is NaN.
    """

    values: NDArray[np.float64]
    seconds: NDArray[np.float64]
    reasons: dict[tuple[int, str], str]


class ProxyEngine:
    """Scores stacks of networks, the same way wherever it runs.

    Args:
        device: cpu, cuda, or auto: cuda where there is one.
        threads: of torch, while it scores. One gives the same bits in every process.
        dtype: precision of the proxies that leave it open, float32 or float64.

    Raises :class:`UsageError` for a device that is not there, and for an unknown dtype.
    """

    def __init__(self, device: str = "auto", threads: int = 1, dtype: str = "float32") -> None:
        if device not in registry.DEVICES:
            raise unknown_name("service.device", device, registry.DEVICES)
        if dtype not in registry.DTYPES:
            raise unknown_name("service.dtype", dtype, registry.DTYPES)
        if threads < 1:
            raise UsageError(f"service.threads={threads} is not possible; give 1 or more.")
        available = torch.cuda.is_available()
        if device == "cuda" and not available:
            raise UsageError(
                "service.device=cuda needs an NVIDIA GPU and a torch built for it; choose cpu."
            )
        self.device = torch.device("cuda" if available and device != "cpu" else "cpu")
        self.threads = threads
        self.dtype = dtype

    def score(self, stack: Stack, batch: Minibatch, proxies: Sequence[Proxy]) -> Scores:
        """Score the K networks of ``stack``, running each pass once for all that read it.

        What fails or is not finite is NaN with a reason. Raises :class:`UsageError` only for
        requests that no network could meet.
        """
        shape = (stack.size, len(proxies))
        values, seconds = np.full(shape, np.nan), np.zeros(shape)
        reasons: dict[int, str] = {}
        precisions: dict[str, list[int]] = {}
        for column, proxy in enumerate(proxies):
            _check_batch(proxy, batch)
            precisions.setdefault(proxy.dtype or self.dtype, []).append(column)
        with self.session():
            for dtype, columns in precisions.items():
                wanted = {proxies[column].reads for column in columns}
                run = Run(stack, batch.to(self.device, getattr(torch, dtype)), wanted)
                for column in columns:
                    proxy = proxies[column]
                    record, failure, _ = self._attempt(partial(run.record, proxy.reads))
                    seconds[:, column] = run.seconds(proxy.reads) / stack.size
                    if failure is None:
                        run.borrowed()
                        read = partial(_to_numpy, proxy.function, record)
                        values[:, column], failure, own = self._attempt(read)
                        seconds[:, column] += (own + run.borrowed()) / stack.size
                    if failure is not None:
                        reasons[column] = failure
        return _explained(values, seconds, reasons, [proxy.name for proxy in proxies])

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Compute reproducibly inside, whatever the caller's settings of torch, and restore them.

        One's own number of threads; gradients on, autocast off; tensors float32 on the CPU unless
        told otherwise, multiplied in full precision; cuDNN deterministic, without TF32; attention
        by its ordinary operators, of which passes see more than of fused layers.
        """
        threads, fused = torch.get_num_threads(), torch.backends.mha.get_fastpath_enabled()
        torch.set_num_threads(self.threads)
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with (
                usual_defaults(),
                torch.inference_mode(False),
                torch.enable_grad(),
                torch.autocast(self.device.type, enabled=False),
                torch.backends.cudnn.flags(
                    enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                ),
            ):
                yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.mha.set_fastpath_enabled(fused)

    def _attempt(self, compute: Callable[[], T]) -> tuple[T | None, str | None, float]:
        """Run with random numbers of its own; return the result or a reason, and the seconds."""
        began = time.perf_counter()
        result, reason = None, None
        with own_chance(self.device):
            try:
                result = compute()
            except UsageError:
                raise
            except Exception as error:
                reason = describe(error)
        return result, reason, time.perf_counter() - began


def score_model(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None = None,
    proxies: Sequence[str] = ("synflow",),
    *,
    device: str = "auto",
    dtype: str = "float32",
    output: Output | None = None,
) -> dict[str, float]:
    """Score any network by proxies, from its weights as they are; it comes back as it was.

    Args:
        model: takes ``inputs`` and returns a tensor [N, ...].
        inputs: floating, [N, ...], N at least 1. Data-free proxies read its shape alone.
        targets: int64 [N] class indices, for proxies that need labels.
        proxies: names of proxies.
        device: where to compute: cpu, cuda, or auto; the model itself stays where it is.
        dtype: precision of the proxies that leave it open.
        output: picks the tensor to score from what the model returns, if that is none itself.

    Proxies that sum over weights take those of convolutions and linear layers; other parameters,
    as attention's joint projection and recurrent layers, take no part in the sum.

    Returns a value for each name. A score that could not be computed is NaN, and a warning says
    why. Raises :class:`UsageError` for unknown names, for inputs or targets that make no sense,
    and for a model that returns no tensor.
    """
    if isinstance(proxies, str):
        proxies = (proxies,)
    values, reasons = explained_scores(
        model, inputs, targets, proxies, device=device, dtype=dtype, output=output
    )
    for name, reason in reasons.items():
        warnings.warn(f"{name} is NaN: {reason}", stacklevel=2)
    return values


def explained_scores(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None,
    proxies: Sequence[str],
    *,
    device: str = "auto",
    dtype: str = "float32",
    output: Output | None = None,
) -> tuple[dict[str, float], dict[str, str]]:
    """Score as :func:`score_model` does; return the values, and why which of them are NaN."""
    if not isinstance(model, nn.Module):
        raise UsageError(f"model must be a torch.nn.Module, not {type(model).__name__}.")
    if not isinstance(proxies, Collection) or not all(isinstance(name, str) for name in proxies):
        raise UsageError(f"proxies must be names of proxies, as ['synflow'], not {proxies!r}.")
    if output is not None and not callable(output):
        raise UsageError(
            "output must be a function of what the model returns, as lambda result: result[0], "
            f"not {output!r}."
        )
    specs = [registry.get(name) for name in proxies]
    engine = ProxyEngine(device, dtype=dtype)
    stack = Single(model, output)
    _check_inputs(inputs)
    logits = _lay_out(stack, inputs, engine)
    if targets is not None:
        _check_targets(targets, inputs, logits)
    batch = Minibatch(inputs.detach(), targets, "the caller's")
    scores = engine.score(stack, batch, specs)
    values = dict(zip(proxies, scores.values[0].tolist(), strict=True))
    return values, {name: reason for (_, name), reason in scores.reasons.items()}


def _to_numpy(function: Callable[[Any], Tensor], record: Any) -> NDArray[np.float64]:
    return function(record).detach().cpu().to(torch.float64).numpy()


def _explained(
    values: NDArray[np.float64],
    seconds: NDArray[np.float64],
    failures: dict[int, str],
    names: Sequence[str],
) -> Scores:
    """Turn what is not finite to NaN, and give every NaN its reason."""
    reasons = {}
    for row, column in np.argwhere(~np.isfinite(values)).tolist():
        failure = failures.get(column)
        reasons[row, names[column]] = failure or f"the value is not finite ({values[row, column]})"
        values[row, column] = np.nan
    return Scores(values, seconds, reasons)


def _check_batch(proxy: Proxy, batch: Minibatch) -> None:
    if proxy.epochs is not None:
        raise UsageError(
            f"proxy={proxy.name} reads the benchmark table of a space, so it scores "
            "architectures and not a network of one's own."
        )
    if proxy.needs_data and len(batch.inputs) == 0:
        raise UsageError(f"proxy={proxy.name} needs a minibatch of data.")
    if proxy.needs_labels and batch.targets is None:
        raise UsageError(f"proxy={proxy.name} needs targets; give one class index per input.")


def _check_inputs(inputs: Any) -> None:
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        kind = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise UsageError(f"inputs must be a floating tensor [N, ...], not {kind}.")
    if inputs.dim() == 0 or inputs.numel() == 0:
        raise UsageError(f"inputs must hold an example [N, ...], not shape {tuple(inputs.shape)}.")
    if not bool(torch.isfinite(inputs).all()):
        raise UsageError("inputs must be finite, but they hold NaN or infinity.")


def _check_targets(targets: Any, inputs: Tensor, logits: Tensor | None) -> None:
    if not isinstance(targets, Tensor) or targets.dtype != torch.int64:
        kind = targets.dtype if isinstance(targets, Tensor) else type(targets).__name__
        raise UsageError(f"targets must be an int64 tensor of class indices, not {kind}.")
    if targets.shape != inputs.shape[:1]:
        raise UsageError(
            f"targets must be one class index per input, [{len(inputs)}], "
            f"not shape {tuple(targets.shape)}."
        )
    classes = logits.shape[-1] if logits is not None and logits.dim() == 3 else None
    low, high = int(targets.min()), int(targets.max())
    if low < 0 or (classes is not None and high >= classes):
        legal = "at least 0" if classes is None else f"0 to {classes - 1}"
        raise UsageError(f"targets must be {legal}, but they range from {low} to {high}.")


def _lay_out(stack: Single, inputs: Tensor, engine: ProxyEngine) -> Tensor | None:
    """Choose the faster memory format that the network runs with; return what one example gives.

    None where the network does not run in evaluation mode.
    """

    def logits() -> Tensor:
        run = Run(stack, Minibatch(inputs[:1].to(engine.device), None, "one example"))
        with training(stack, False), torch.no_grad():
            return stack(run.tensors(), run.batch.inputs)

    with engine.session():
        for layout in (torch.channels_last, torch.contiguous_format):
            stack.memory_format = layout
            result, _, _ = engine._attempt(logits)
            if result is not None:
                return result
    return None
