"""What a forward pass did: the operators that torch ran, in order, with what they were given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Operation(NamedTuple):
    """One operator, its arguments and its result; ``version`` is the result's when it was new."""

    operator: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    version: int

    @property
    def output(self) -> Any:
        """The result, or the first of several."""
        return self.result[0] if isinstance(self.result, (tuple, list)) else self.result

    @property
    def intact(self) -> bool:
        """Whether no later operator has written on the result."""
        return bool(self.output._version == self.version)

    def tensors(self) -> Iterator[Tensor]:
        """Yield the tensors that the operator was given."""
        for argument in self.args:
            for value in argument if isinstance(argument, (list, tuple)) else (argument,):
                if isinstance(value, Tensor):
                    yield value


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the operators that run inside, below autograd."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        first = result[0] if isinstance(result, (tuple, list)) else result
        version = first._version if isinstance(first, Tensor) else 0
        in_place = any(argument is first for argument in args)  # torch counts that afterwards
        self.operations.append(
            Operation(func.overloadpacket, args, kwargs, result, version + in_place)
        )
        return result
