"""Several operations in one place of a network: what makes a supernet of it.

Supernets that differ in one place can run as one, as *branches*: what comes before the place runs
once, on N examples; behind it each branch has N examples of its own, [branches x N, ...], branch
by branch. That is right wherever an example does not meet the others, as in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Branches:
    """The branches of one network.

    Attributes:
        count: how many there are.
        examples: N, set before the network runs.
        having: int64 [count], how often each has the operation that is running.
    """

    def __init__(self, count: int) -> None:
        self.count, self.examples = count, 0
        self.having = self.all = torch.ones(count, dtype=torch.int64)

    def split(self, tensor: Tensor) -> Tensor:
        """View [N, ...] as [1, N, ...] and [branches x N, ...] as [branches, N, ...]."""
        return tensor.unflatten(0, (-1, self.examples))


class Mixture(nn.Module):
    """The sum of the outputs of several operations on one input, divided by how many they were.

    That is their mean, until :meth:`keep` takes some out without raising the weights of the rest.
    """

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)
        self.of = len(candidates)
        self._branches: Branches | None = None

    @property
    def cut(self) -> bool:
        """Whether nothing is left."""
        return len(self.candidates) == 0

    @property
    def branched(self) -> bool:
        """Whether there are branches that keep different things."""
        return self._branches is not None

    def keep(self, kept: Sequence[int], of: int) -> None:
        """Keep the candidates numbered ``kept``, each with the weight 1 / ``of``."""
        self.candidates = nn.ModuleList(self.candidates[number] for number in kept)
        self.of = of

    def part(self, branches: Branches, kept: Sequence[Sequence[int]], of: Sequence[int]) -> None:
        """Let each of ``branches`` have those candidates, with those weights, that it would keep."""
        self._branches = branches
        self._kept = torch.tensor(
            [[int(n in numbers) for numbers in kept] for n in range(len(self.candidates))]
        )
        self._of = torch.tensor(of)

    def forward(self, features: Tensor) -> Tensor:
        """Add up and divide, keeping the shape that the operations agree on."""
        if self._branches:
            return self._parted(features, self._branches)
        outputs: list[Tensor] = [candidate(features) for candidate in self.candidates]
        added = sum(outputs[1:], outputs[0])
        return added if self.of == 1 else added / self.of

    def _parted(self, features: Tensor, branches: Branches) -> Tensor:
        """Do the same for each branch, [N, ...] or [branches x N, ...] to [branches x N, ...]."""
        added: Tensor | None = None
        for candidate, having in zip(self.candidates, self._kept, strict=True):
            branches.having = having
            output = branches.split(candidate(features))
            shape = (-1, *[1] * (output.dim() - 1))
            output = output * having.to(output).view(shape)
            added = output if added is None else added.add_(output)
        branches.having = branches.all
        assert added is not None
        return added.div_(self._of.to(added).view(shape)).flatten(0, 1)


def alike(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Repeat those that have no branches yet for the branches of the others."""
    most = max(len(tensor) for tensor in tensors)
    return [
        tensor
        if len(tensor) == most
        else tensor.repeat(most // len(tensor), *[1] * (tensor.dim() - 1))
        for tensor in tensors
    ]


def total(tensors: Sequence[Tensor]) -> Tensor:
    """Add up tensors, of which some may have no branches yet."""
    first, *others = alike(tensors)
    return sum(others, first)
