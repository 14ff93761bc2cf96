"""The loss of a minibatch: one forward pass, and every gradient that proxies read of it.

The networks run in training mode, BatchNorm on the statistics of the minibatch. One graph serves
the loss and the input Jacobian: the forward pass runs once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from proxies.passes.activations import PATTERN_PASSES, Signs, recording_signs
from proxies.passes.modes import out_of_place, training
from proxies.passes.run import Layer, Layers, Run, register_pass
from proxies.passes.second_order import NoRuleError, bending, second_order
from proxies.passes.tape import Operation, Tape
from proxies.stack import Weight


@dataclass(frozen=True)
class Forward:
    """A forward pass whose graph is kept.

    ``inputs`` [K x N, ...] and ``leaves``, one for each of ``weights``, are what gradients can be
    taken of; ``logits`` is [K, N, ...]; ``outputs`` has what each layer returned, call by call,
    and is empty unless the channels are wanted; ``signs`` has those of each call of a ReLU, and is
    empty unless activations are wanted; ``operations`` has what torch did, and is
    empty unless the curvature is wanted.
    """

    inputs: Tensor
    weights: list[Weight]
    leaves: list[Tensor]
    logits: Tensor
    outputs: list[list[Tensor]]
    signs: list[Signs]
    operations: list[Operation]


@dataclass(frozen=True)
class Channel:
    """What one layer returned and its gradient, [m, N, channels, positions], for Fisher's sake.

    ``weights`` is how many weights belong to each channel.
    """

    output: Tensor
    gradient: Tensor
    weights: int
    members: Tensor


@dataclass(frozen=True)
class Loss:
    """Gradients of the mean cross entropy: of the weights, and of the layers' outputs if wanted.

    ``adjoints`` has those of what :func:`~proxies.passes.second_order.bending` names, if the
    curvature of a single network is wanted.
    """

    layers: Layers
    gradients: tuple[Tensor, ...]
    channels: list[list[Channel]]
    adjoints: dict[Tensor, Tensor]


@dataclass(frozen=True)
class Curvature:
    """The sum of weights times (Hessian times gradient), float64 [K]."""

    values: Tensor


@dataclass(frozen=True)
class Jacobian:
    """Gradient of the sum of the logits with respect to each example: ``rows`` [K, N, inputs]."""

    rows: Tensor


@register_pass("forward")
def forward(run: Run) -> Forward:
    """Run the minibatch once, in training mode."""
    stack = run.stack
    weights = stack.weights()
    tensors = run.tensors()
    leaves = [tensors[weight.name].requires_grad_() for weight in weights]
    inputs = run.inputs().requires_grad_()
    outputs: list[list[Tensor]] = [[] for _ in weights]
    recording = _recording(weights, outputs if "channels" in run.wanted else None)
    signs: list[Signs] = []
    watching = recording_signs(run, signs) if PATTERN_PASSES & run.wanted else nullcontext()
    tape = Tape()
    taping = tape if "curvature" in run.wanted else nullcontext()
    with training(stack), out_of_place(stack), recording, watching, taping:
        logits = stack(tensors, inputs)
    return Forward(inputs, weights, leaves, run.finite(logits), outputs, signs, tape.operations)


@register_pass("loss")
def loss(run: Run) -> Loss:
    """Differentiate the mean cross entropy of each network, summed over the stack."""
    stack, pass_ = run.stack, run.record("forward")
    flat = [output for calls in pass_.outputs for output in calls]
    bent = bending(pass_.operations) if stack.size == 1 else []
    found = torch.autograd.grad(
        _cross_entropy(run, pass_.logits),
        [*pass_.leaves, *flat, *bent],
        retain_graph=True,
        materialize_grads=True,
    )
    gradients = found[: len(pass_.leaves)]
    layers = [
        Layer(w.name, stack.rows(w, leaf.detach()), stack.rows(w, g.detach()), w.members)
        for w, leaf, g in zip(pass_.weights, pass_.leaves, gradients, strict=True)
    ]
    of_outputs = iter(found[len(pass_.leaves) :])
    channels = [
        [
            Channel(
                stack.channels(w, output.detach()),
                stack.channels(w, next(of_outputs).detach()),
                stack.per_channel(w),
                w.members,
            )
            for output in calls
        ]
        for w, calls in zip(pass_.weights, pass_.outputs, strict=True)
    ]
    adjoints = dict(zip(bent, of_outputs, strict=True))
    return Loss(Layers(stack.size, layers), gradients, channels, adjoints)


@register_pass("gradients")
def gradients(run: Run) -> Layers:
    """Give the weights and the gradients of the loss with respect to them."""
    layers: Layers = run.record("loss").layers
    return layers


@register_pass("channels")
def channels(run: Run) -> list[list[Channel]]:
    """Give outputs and the gradients of the loss with respect to them: layers, calls of each."""
    found: list[list[Channel]] = run.record("loss").channels
    return found


@register_pass("curvature")
def curvature(run: Run) -> Curvature:
    """Give the sum of w (H g) of each network, H the Hessian of its loss, by forward derivatives.

    w (H g) is the second derivative of the loss along w and g. Where an operator of the network
    has no rule for that, the gradient is differentiated once more instead.
    """
    if "curvature" in run.wanted:
        with suppress(NoRuleError):
            return _forwards(run)
    return _backwards(run)


@register_pass("jacobian")
def jacobian(run: Run) -> Jacobian:
    """Differentiate the sum of all logits with respect to the inputs.

    Under batch statistics the row of an example also holds how it moves the others' logits.
    """
    pass_ = run.record("forward")
    (rows,) = torch.autograd.grad(pass_.logits.sum(), pass_.inputs, retain_graph=True)
    return Jacobian(torch.unflatten(rows.flatten(1), 0, (run.stack.size, -1)))


@register_pass("weights")
def weights(run: Run) -> Layers:
    """Give the weights alone; their ``gradient`` is the weight itself."""
    stack, tensors = run.stack, run.stack.tensors()
    rows = [(w, stack.rows(w, tensors[w.name])) for w in stack.weights()]
    return Layers(stack.size, [Layer(w.name, row, row, w.members) for w, row in rows])


def check_logits(logits: Tensor) -> None:
    """Raise ``ValueError`` unless [K, N, ...] are logits of two classes or more for each input."""
    if logits.dim() != 3:
        shape = list(logits.shape[1:])
        raise ValueError(f"the loss needs one row of class logits per input, not {shape}")
    if logits.shape[-1] == 1:
        raise ValueError("the cross entropy of a single class is always 0; give two or more logits")


def _forwards(run: Run) -> Curvature:
    pass_, loss, targets = run.record("forward"), run.record("loss"), run.batch.targets
    assert targets is not None
    pairs = zip(pass_.leaves, loss.gradients, strict=True)
    moves = {leaf: (leaf, gradient) for leaf, gradient in pairs}
    with torch.no_grad():
        jet, share = second_order(pass_.operations, moves, pass_.logits, loss.adjoints)
    logits = pass_.logits.detach().double()
    z_s, z_t, z_st = (torch.zeros_like(logits) if part is None else part.double() for part in jet)
    chances = logits.softmax(-1)
    means = [(chances * part).sum(-1, keepdim=True) for part in (z_s, z_t)]
    bent = (chances * (z_s - means[0]) * (z_t - means[1])).sum(-1)
    pull = (chances - functional.one_hot(targets, logits.shape[-1])) * z_st
    return Curvature(((bent + pull.sum(-1)).mean(-1) + share).cpu())


def _backwards(run: Run) -> Curvature:
    stack = run.stack
    weights, tensors = stack.weights(), run.tensors()
    leaves = [tensors[weight.name].requires_grad_() for weight in weights]
    with training(stack), out_of_place(stack):
        logits = stack(tensors, run.inputs())
    first = torch.autograd.grad(
        _cross_entropy(run, logits), leaves, create_graph=True, materialize_grads=True
    )
    inner = sum((g.detach() * g).sum() for g in first)
    assert isinstance(inner, Tensor)
    products = torch.autograd.grad(inner, leaves, materialize_grads=True)
    layers = [
        Layer(w.name, stack.rows(w, leaf.detach()), stack.rows(w, product), w.members)
        for w, leaf, product in zip(weights, leaves, products, strict=True)
    ]
    return Curvature(Layers(stack.size, layers).total(torch.mul))


def _cross_entropy(run: Run, logits: Tensor) -> Tensor:
    """Mean cross entropy of each network, summed over the stack."""
    targets = run.batch.targets
    assert targets is not None
    check_logits(logits)
    total = functional.cross_entropy(
        logits.flatten(0, 1), targets.repeat(run.stack.size), reduction="sum"
    )
    return total / len(targets)


@contextmanager
def _recording(weights: list[Weight], outputs: list[list[Tensor]] | None) -> Iterator[None]:
    """Append what the layers of each weight return; nothing where ``outputs`` is None."""
    handles: list[RemovableHandle] = []
    for calls, weight in zip(outputs or [], weights, strict=False):

        def record(_: nn.Module, __: object, output: Tensor, calls: list[Tensor] = calls) -> Tensor:
            calls.append(output)
            return output.clone()  # what is recorded stays, whatever is done to it later

        handles += [module.register_forward_hook(record) for module in weight.modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
