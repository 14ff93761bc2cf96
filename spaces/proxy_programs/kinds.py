"""Which programs fit together: the kind of what each part of a program gives."""

from __future__ import annotations

from typing import Final

from spaces.proxy_programs.formula import SUM, TERMINALS, Node

NUMBER: Final = "number"
"""One number of each unit."""

MATRICES: Final = " matrices"
"""After the kind of a tensor: one number for each of its matrices."""

_TO_NUMBER: Final = {"frobenius", "mean", "mean_abs", "numel", "hamming", "kl", "cosine"}
_EIGENVALUES: Final = {"eigenratio", "symmetric_eigenratio"}
_DETERMINANTS: Final = {"det", "logdet"}


def kind_of(program: Node) -> str | None:
    """Return the kind of what ``program`` gives; None if its parts do not fit together.

    The kind of a tensor is whose shape it has: weight, input, preactivation or activation. Two
    tensors fit if they are of the same kind, and a number fits with any. This is stricter than
    evaluation, where shapes of different kinds may happen to agree.
    """
    name = program.name
    if name in TERMINALS:
        return name.split("_")[0]
    kinds = [kind_of(argument) for argument in program.arguments]
    if None in kinds:
        return None
    first = kinds[0]
    assert first is not None
    if name == SUM:
        return first
    whole = first != NUMBER and not first.endswith(MATRICES)
    if name in _DETERMINANTS:
        return first + MATRICES if whole else None
    if name in _EIGENVALUES:
        return NUMBER if first != NUMBER else None
    if len(kinds) == 2:
        second = kinds[1]
        assert second is not None
        if name in ("matmul", "cosine") and (first != second or not whole):
            return None
        if first == NUMBER:
            first = second
        elif second not in (first, NUMBER):
            return None
    return NUMBER if name in _TO_NUMBER else first
