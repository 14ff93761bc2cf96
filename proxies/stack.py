"""What a pass runs: K architectures at once, of which one ``nn.Module`` is the case K = 1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from conf.errors import UsageError
from spaces.arithmetic import TRAINING, Arithmetic
from spaces.grouped import GroupedConv2d
from spaces.mixture import Branches

Output = Callable[[Any], Tensor]

_LAYERS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)


@dataclass(frozen=True)
class Weight:
    """A scored weight: its name among the tensors, whose it is, and the modules that hold it.

    ``members`` is int64 [m]: the architectures of the stack that have this layer.
    """

    name: str
    members: Tensor
    modules: tuple[nn.Module, ...]


class Stack(ABC):
    """K architectures that run as one module.

    A pass never writes to the module's tensors: it takes :meth:`tensors`, makes its own of them,
    and runs the stack on those.
    """

    module: nn.Module
    size: int
    parts: dict[str, nn.Module]
    """Every module inside, by its path, the stack's own included."""
    memory_format: torch.memory_format = torch.contiguous_format
    """How pictures and kernels lie in memory while the stack runs on a CPU."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and buffers by name, each once, detached, in the module's memory."""

    @abstractmethod
    def __call__(self, tensors: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Run the stack on ``tensors`` in place of its own: inputs [K x N, ...] to [K, N, ...]."""

    def weights(self) -> list[Weight]:
        """List the weights of convolutions and linear layers, each once, also unused ones.

        Raises ``ValueError`` where there are none to be told apart.
        """
        raise ValueError("networks that run as one have no single layers")

    def rows(self, weight: Weight, tensor: Tensor) -> Tensor:
        """View a tensor shaped like ``weight``, or its gradient, as [m, out, in, ...]."""
        raise NotImplementedError

    def channels(self, weight: Weight, output: Tensor) -> Tensor:
        """View what a module of ``weight`` returned as [m, N, channels, positions]."""
        raise NotImplementedError

    def per_channel(self, weight: Weight) -> int:
        """Say how many weights belong to each channel of the output."""
        raise NotImplementedError


class Single(Stack):
    """One network.

    Args:
        module: any module that takes one tensor.
        output: picks the tensor to score from what the module returns, if that is none itself.
        memory_format: ``torch.channels_last`` makes convolutions and pooling faster on a CPU; a
            module that takes views of its features may not run with it.
    """

    size = 1

    def __init__(
        self,
        module: nn.Module,
        output: Output | None = None,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        self.module = module
        self.memory_format = memory_format
        self.parts = dict(module.named_modules())
        self._output = output
        first: dict[int, str] = {}
        self._tensors: dict[str, Tensor] = {}
        self._shared: dict[str, str] = {}
        for name, tensor in _named_tensors(self.parts):
            if id(tensor) in first:
                self._shared[name] = first[id(tensor)]
            else:
                first[id(tensor)] = name
                self._tensors[name] = tensor

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and buffers by name; shared ones under their first name."""
        return {name: tensor.detach() for name, tensor in self._tensors.items()}

    def weights(self) -> list[Weight]:
        """List the ``.weight`` of every convolution and linear layer, in the module's order.

        Raises ``ValueError`` where there is none, or one that is computed from other parameters.
        """
        names = {id(tensor): name for name, tensor in self._tensors.items()}
        alone = torch.zeros(1, dtype=torch.int64)
        found: dict[str, Weight] = {}
        for path, layer in self.parts.items():
            if not isinstance(layer, _LAYERS):
                continue
            name = names.get(id(layer.weight))
            if name is None:
                raise ValueError(f"the weight of layer '{path}' is no plain parameter")
            sharing = found[name].modules if name in found else ()
            found[name] = Weight(name, alone, (*sharing, layer))
        if not found:
            raise ValueError("the network has no convolution and no linear layer")
        return list(found.values())

    def rows(self, weight: Weight, tensor: Tensor) -> Tensor:
        """Return ``tensor`` as the one row of the one member."""
        return tensor.unsqueeze(0)

    def channels(self, weight: Weight, output: Tensor) -> Tensor:
        """Bring the channels of a convolution or a linear layer to the third place."""
        if isinstance(weight.modules[0], nn.Linear):
            output = output.movedim(-1, 1)
        return output.reshape(1, *output.shape[:2], -1)

    def per_channel(self, weight: Weight) -> int:
        """Return in / groups x kernel, for a transposed convolution likewise."""
        layer = weight.modules[0]
        shape = layer.weight
        assert isinstance(shape, Tensor)
        out = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
        assert isinstance(out, int)
        return shape.numel() // out

    def __call__(self, tensors: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Run the network; raises :class:`UsageError` where it returns no tensor."""
        tied = {name: tensors[first] for name, first in self._shared.items()}
        # Untying by ourselves spares functional_call a slow search for shared tensors.
        result = functional_call(self.module, {**tensors, **tied}, (inputs,), tie_weights=False)
        value = self._output(result) if self._output else result
        if not isinstance(value, Tensor):
            raise UsageError(
                f"the network returns a {type(value).__name__}, not a tensor; pass output=, a "
                "function that picks the tensor to score from what the network returns."
            )
        return value.unsqueeze(0)


class Joined(Stack):
    """Networks that one module runs, which a space built; ``networks`` says how many."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parts = dict(module.named_modules())
        networks = module.networks
        assert isinstance(networks, int)
        self.size = networks
        self._tensors = dict(_named_tensors(self.parts))

    def tensors(self) -> dict[str, Tensor]:
        """Return parameters and buffers by name."""
        return {name: tensor.detach() for name, tensor in self._tensors.items()}

    def __call__(self, tensors: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Run the networks."""
        return self._run(tensors, inputs)

    def _run(self, tensors: Mapping[str, Tensor], *given: Any) -> Tensor:
        logits = functional_call(self.module, dict(tensors), given, tie_weights=False)
        return torch.unflatten(logits, 0, (self.size, -1))


class Stacked(Joined):
    """Networks that run one by one, by a space's ``stacked_network``.

    It is for passes that ask for no single layer.
    """

    memory_format = torch.channels_last

    def __call__(
        self,
        tensors: Mapping[str, Tensor],
        inputs: Tensor,
        arithmetic: Arithmetic = TRAINING,
    ) -> Tensor:
        """Run the networks, with other operations where ``arithmetic`` has some."""
        return self._run(tensors, inputs, arithmetic)


class Grouped(Joined):
    """Networks that run layer by layer, by a space's ``grouped_network``."""

    def weights(self) -> list[Weight]:
        """List the weights of the convolutions, each of those networks that have it."""
        return [
            Weight(f"{path}.weight", torch.tensor(layer.members), (layer,))
            for path, layer in self.parts.items()
            if isinstance(layer, GroupedConv2d)
        ]

    def rows(self, weight: Weight, tensor: Tensor) -> Tensor:
        """Part ``tensor`` by network."""
        return torch.unflatten(tensor, 0, (len(weight.members), -1))

    def channels(self, weight: Weight, output: Tensor) -> Tensor:
        """Part the channels by network."""
        parted = torch.unflatten(output, 1, (len(weight.members), -1))
        return parted.transpose(0, 1).flatten(3)

    def per_channel(self, weight: Weight) -> int:
        """Return in x kernel."""
        shape = weight.modules[0].weight
        assert isinstance(shape, Tensor)
        return shape[0].numel()


class Branching(Joined):
    """Supernets that differ in one place, which :class:`spaces.supernets.Supernets` runs as one.

    All see the same inputs [N, ...]. It is for passes in which no example meets another, and that
    ask for no single layer.
    """

    memory_format = torch.channels_last

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        branches = module.branches
        assert isinstance(branches, Branches)
        self.branches = branches


def _named_tensors(parts: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    """Name every parameter, then every buffer, once for each module that holds it."""
    for kind in ("_parameters", "_buffers"):
        for path, part in parts.items():
            for name, tensor in getattr(part, kind).items():
                if tensor is not None:
                    yield (f"{path}.{name}" if path else name), tensor
