"""What the blocks of a network of Kaiming-normal weights make of Gaussian noise."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

from proxies.passes.drawing import gaussian, gaussian_weights
from proxies.passes.modes import normalising_by_batch, out_of_place
from proxies.passes.run import Run, register_pass
from proxies.stack import Stack

_EXAMPLES: Final = 64
_SIGNS_SEED: Final = 1


@dataclass(frozen=True)
class Block:
    """One call of one block: a leaf [N, c, positions...] and what came of it, a graph between."""

    given: Tensor
    returned: Tensor


@dataclass(frozen=True)
class PerBlock:
    """A number of each block or of each of its features, in the order of calls: float64 [K, L]."""

    values: Tensor


@register_pass("blocks")
def blocks(run: Run) -> list[Block]:
    """Run 64 inputs ~ N(0, 1), block by block, and keep what each was given.

    BatchNorm normalises by the 64, and dropout is off. Weights are drawn by the pass from
    N(0, 2 / fan in). The list starts at the first block that is given features rather than the
    input itself: one that is given the input is a stem. Calls that do not map
    [N, c, positions...] to [N, c', positions'...] are left out.

    A network may list its blocks with a method ``blocks()``. Otherwise containers (Sequential,
    ModuleList, ModuleDict) are opened, from the network itself inwards, as far as what they hold
    has parts of its own, and each module so reached that has parts is a block; in a network of
    which no module has parts, each convolution is one. Raises ``ValueError`` where nothing is a
    block.
    """
    stack = run.stack
    tensors = gaussian_weights(run, lambda fan_in: (2 / fan_in) ** 0.5)
    inputs = gaussian(run, _EXAMPLES, *run.batch.inputs.shape[1:])
    calls: list[Block] = []
    recording = _recording(blocks_of(stack), inputs, calls)
    with normalising_by_batch(stack), out_of_place(stack), recording:
        outputs = stack(tensors, inputs)
    run.finite(outputs)
    if not calls:
        raise ValueError("the network has no block that maps features to features")
    return calls


@register_pass("entropies")
def entropies(run: Run) -> PerBlock:
    """Entropy of the principal components of the features that enter and leave the blocks.

    The features are the first block's input and every block's output, L + 1 for L blocks. The
    eigenvalues of their covariance [channels, channels] over examples and positions, divided by
    their sum, are a distribution p; its entropy is -sum p log p.
    """
    calls: list[Block] = run.record("blocks")
    features = [calls[0].given, *(block.returned for block in calls)]
    return PerBlock(torch.stack([_entropy(f.detach()) for f in features]).unsqueeze(0))


@register_pass("gains")
def gains(run: Run) -> PerBlock:
    """Largest singular value of each block's Jacobian, as random signs sound it.

    Signs u of the shape of a block's output go back to v, its gradient at the input. The mean of
    v u^T over examples and positions, [c, c'], estimates the transposed Jacobian between channels.
    Where the block shrinks the image, the pixels of v that lie under one of u become channels.
    The factor is rounded, and borders are cut or filled with zeros to fit. NaN for a block that
    gives gradients back unchanged, and for one that enlarges the image.
    """
    calls: list[Block] = run.record("blocks")
    chance = torch.Generator().manual_seed(_SIGNS_SEED)
    return PerBlock(torch.stack([_gain(block, chance) for block in calls]).unsqueeze(0))


def blocks_of(stack: Stack) -> list[nn.Module]:
    """List the blocks of a network, by the rule of :func:`blocks`."""
    listed = getattr(stack.module, "blocks", None)
    if inspect.ismethod(listed):
        return list(listed())
    layers = [module for weight in stack.weights() for module in weight.modules]
    return list(_opened(stack.module)) or layers


_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _opened(module: nn.Module) -> Iterator[nn.Module]:
    """Reach, through containers, the modules that have parts."""
    for child in module.children():
        grandchildren = list(child.children())
        if not grandchildren:
            continue
        if isinstance(child, _CONTAINERS) and any(list(g.children()) for g in grandchildren):
            yield from _opened(child)
        else:
            yield child


@contextmanager
def _recording(blocks: list[nn.Module], images: Tensor, calls: list[Block]) -> Iterator[None]:
    """Cut the graph before each block, and append what it is given and returns."""
    given: dict[nn.Module, Tensor] = {}

    def before(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        given.pop(block, None)
        if not inputs or not _has_positions(inputs[0]) or inputs[0] is images:
            return None
        leaf = given[block] = inputs[0].detach().requires_grad_()
        return (leaf.clone(), *inputs[1:])

    def after(block: nn.Module, _: object, output: Any) -> Tensor | None:
        leaf = given.pop(block, None)
        if leaf is None or not _has_positions(output):
            return None
        calls.append(Block(leaf, output))
        return output.clone()  # what is recorded stays, whatever is done to it later

    handles = [block.register_forward_pre_hook(before) for block in blocks]
    handles += [block.register_forward_hook(after) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _has_positions(value: Any) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.is_floating_point() and value.dim() > 2


def _entropy(features: Tensor) -> Tensor:
    channels = features.transpose(0, 1).flatten(1)
    covariance = channels.cov().double().reshape(len(channels), -1)
    components = torch.linalg.eigvalsh(covariance).clamp(min=0)
    entropy: Tensor = torch.special.entr(components / components.sum()).sum()
    return entropy


def _gain(block: Block, chance: torch.Generator) -> Tensor:
    given, returned = block.given, block.returned
    signs = torch.randint(0, 2, returned.shape, generator=chance).to(returned).mul_(2).sub_(1)
    if returned.requires_grad:
        back = torch.autograd.grad(returned, given, signs)[0]
    else:
        back = torch.zeros_like(given)
    if torch.equal(back, signs) or back.dim() != signs.dim():
        return _undefined(back)
    sizes = signs.shape[2:]
    strides = [round(side / size) for side, size in zip(back.shape[2:], sizes, strict=True)]
    if 0 in strides:
        return _undefined(back)
    under = _under(back, sizes, strides)
    estimate = under.T @ _under(signs, sizes, [1] * len(sizes)) / len(under)
    gain: Tensor = torch.linalg.matrix_norm(estimate.double(), 2)
    return gain


def _under(tensor: Tensor, sizes: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Cut [n, c, positions...] in cells: [n x cells, c x positions of a cell].

    There are ``sizes`` cells of ``strides`` positions; borders are cut or filled with zeros to fit.
    """
    spare = [
        size * stride - side
        for side, size, stride in zip(tensor.shape[2:], sizes, strides, strict=True)
    ]
    margins = [margin for s in reversed(spare) for margin in (s // 2, s - s // 2)]
    fitted = functional.pad(tensor, margins)
    cut = [part for pair in zip(sizes, strides, strict=True) for part in pair]
    cells, inside = range(2, 2 + len(cut), 2), range(3, 3 + len(cut), 2)
    ordered = fitted.reshape(*tensor.shape[:2], *cut).permute(0, *cells, 1, *inside)
    return ordered.flatten(1 + len(sizes)).flatten(0, len(sizes))


def _undefined(like: Tensor) -> Tensor:
    return torch.tensor(torch.nan, dtype=torch.float64, device=like.device)
