"""One program for all that are equal by the rules of arithmetic."""

from __future__ import annotations

from typing import Final

from spaces.proxy_programs.formula import Node

_SAME: Final = {"heaviside": "positive", "symmetric_eigenratio": "eigenratio"}
_COMMUTATIVE: Final = {"add", "multiply", "equal", "hamming", "cosine"}
_NEVER_NEGATIVE: Final = {
    *("abs", "square", "exp", "relu", "softmax", "sigmoid", "positive", "negative", "abslog"),
    *("ones", "zeros", "less", "greater", "equal", "frobenius", "mean_abs", "hamming", "numel"),
}
_BITS: Final = {"positive", "negative", "less", "greater", "equal", "ones", "zeros"}
_SHAPE_ALONE: Final = {"ones", "zeros", "numel"}
_KEEP_SHAPE: Final = {
    *("log", "abslog", "abs", "square", "exp", "standardise", "relu", "sign", "invert"),
    *("softmax", "sigmoid", "ones", "zeros", "positive", "negative"),
}


def simplify(program: Node) -> Node:
    """Return the representative of the programs that rules of arithmetic make equal to this one.

    Rules: commutative operations sort their arguments; less is greater the other way round; abs
    and relu of what is never negative, sign and positive of what is 0 or 1, and abs under square,
    abs, frobenius or mean_abs, do nothing; ones, zeros and numel read a shape alone.
    """
    name = _SAME.get(program.name, program.name)
    arguments = tuple(simplify(argument) for argument in program.arguments)
    if not arguments:
        return program
    first = arguments[0]
    if name == "less":
        name, arguments = "greater", arguments[::-1]
    if name in _COMMUTATIVE:
        arguments = tuple(sorted(arguments, key=str))
    if name in ("abs", "relu") and first.name in _NEVER_NEGATIVE:
        return first
    if name in ("sign", "positive") and first.name in _BITS:
        return first
    if name == "sign" and first.name == "sign":
        return first
    if name in ("square", "frobenius", "mean_abs", "abs") and first.name == "abs":
        return simplify(Node(name, first.arguments))
    if name in _SHAPE_ALONE:
        while first.name in _KEEP_SHAPE:
            first = first.arguments[0]
        arguments = (first,)
    return Node(name, arguments)
