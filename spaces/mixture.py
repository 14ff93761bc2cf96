"""Several operations in one place of a network: what makes a supernet of it.

Supernets that differ in one place can run as one, as *branches*: what comes before the place runs
once, on N examples; behind it each branch has N examples of its own, [branches x N, ...], branch
by branch. That is right wherever an example does not meet the others, as in evaluation mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn


class Branches:
    """The branches of one network.

    Attributes:
        count: how many there are.
        examples: N, set before the network runs.
        having: how often each has the operation that is running, [count].
    """

    def __init__(self) -> None:
        self.examples = 0
        self.grow(1)

    def column(self, numbers: Sequence[float], like: Tensor) -> Tensor:
        """Give each branch's number to its examples: [branches x N, 1, ...], shaped as ``like``."""
        each = torch.tensor(numbers, dtype=like.dtype, device=like.device)
        return each.repeat_interleave(self.examples).view(-1, *[1] * (like.dim() - 1))

    def grow(self, count: int) -> None:
        """Let there be ``count``."""
        self.count = count
        self.having = self.all = [1] * count

    def split(self, tensor: Tensor) -> Tensor:
        """View [N, ...] as [1, N, ...] and [branches x N, ...] as [branches, N, ...]."""
        return torch.unflatten(tensor, 0, (-1, self.examples))

    def spread(self, tensor: Tensor) -> Tensor:
        """Repeat [N, ...] for each branch: [branches x N, ...], which stays as it is."""
        return _repeated(tensor, self.count * self.examples)


class Mixture(nn.Module):
    """The sum of the outputs of several operations on one input, divided by how many they were.

    That is their mean, until :meth:`keep` takes some out without raising the weights of the rest.

    Attributes:
        weights: of each candidate, the weight in each branch, [candidates][branches, or 1].
        shares: what each candidate weighs instead where it is not alone, [candidates]; None: the
            same. Branches take no shares.
    """

    def __init__(self, candidates: Sequence[nn.Module]) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(candidates)
        self.shares: Tensor | None = None
        self._branches: Branches | None = None
        self.keep(range(len(candidates)), len(candidates))

    @property
    def cut(self) -> bool:
        """Whether nothing is left in any branch."""
        return not any(map(any, self.weights))

    @property
    def branched(self) -> bool:
        """Whether branches keep different things."""
        return self._branches is not None

    def keep(self, kept: Sequence[int], of: int) -> None:
        """Keep the candidates numbered ``kept``, each with the weight 1 / ``of``."""
        self._set([kept], [of])
        self._branches = None

    def part(self, branches: Branches, kept: Sequence[Sequence[int]], of: Sequence[int]) -> None:
        """Let each of ``branches`` keep candidates of its own."""
        self._set(kept, of)
        self._branches = branches

    def trim(self) -> None:
        """Remove the candidates that are not kept."""
        kept = [number for number, has in enumerate(self._kept) if has[0]]
        self.candidates = nn.ModuleList(self.candidates[number] for number in kept)
        self.keep(range(len(kept)), self._of[0])

    def forward(self, features: Tensor) -> Tensor:
        """Add up and divide, keeping the shape that the operations agree on."""
        if self._branches:
            return self._parted(features, self._branches)
        shares = None if self._of == [1] else self.shares
        outputs: list[Tensor] = []
        for number, (candidate, kept) in enumerate(zip(self.candidates, self._kept, strict=True)):
            if kept[0]:
                output = candidate(features)
                outputs.append(output if shares is None else output * shares[number])
        added = sum(outputs[1:], outputs[0])
        return added if shares is not None or self._of == [1] else added / self._of[0]

    def _parted(self, features: Tensor, branches: Branches) -> Tensor:
        """Do the same for each branch, [N, ...] or [branches x N, ...] to [branches x N, ...]."""
        added: Tensor | None = None
        for candidate, having in zip(self.candidates, self._kept, strict=True):
            if not any(having):
                continue
            branches.having = having
            output = branches.spread(candidate(features))
            each = branches.column(having, output)
            added = output * each if added is None else added.addcmul_(output, each)
        branches.having = branches.all
        assert added is not None
        return added.div_(branches.column(self._of, added))

    def _set(self, kept: Sequence[Sequence[int]], of: Sequence[int]) -> None:
        self._kept = [
            [int(number in numbers) for numbers in kept] for number in range(len(self.candidates))
        ]
        self._of = list(of)
        self.weights = [
            [has / max(count, 1) for has, count in zip(each, of, strict=True)]
            for each in self._kept
        ]


def mixtures_of(network: nn.Module) -> list[list[Mixture]]:
    """List the mixtures of a supernet, those of each place together."""
    found: list[list[Mixture]] = cast("Any", network).mixtures()
    return found


def alike(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Repeat those that have no branches yet for the branches of the others."""
    most = max(len(tensor) for tensor in tensors)
    return [_repeated(tensor, most) for tensor in tensors]


def total(tensors: Sequence[Tensor]) -> Tensor:
    """Add up tensors, of which some may have no branches yet."""
    first, *others = alike(tensors)
    return sum(others, first)


def _repeated(tensor: Tensor, rows: int) -> Tensor:
    """Repeat to so many rows; concatenation keeps the memory format, where ``repeat`` does not."""
    return tensor if len(tensor) == rows else torch.cat([tensor] * (rows // len(tensor)))
