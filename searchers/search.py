"""Search one's own space for one's own objective, from Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from searchers.base import Searcher, comparable
from spaces.base import Architecture
from spaces.benchmark import Evaluation


@dataclass(frozen=True)
class Found:
    """The best architecture of a search, its value, and all that was tried, in order."""

    architecture: Architecture
    value: float
    tried: list[tuple[Architecture, float]]


def search(
    searcher: Searcher,
    objective: Callable[[Architecture], float],
    models: int,
    *,
    maximise: bool = True,
) -> Found:
    """Let ``searcher`` propose ``models`` architectures and evaluate each by ``objective``.

    With ``maximise=False`` the smallest value is the best; NaN is so only where there is nothing
    else. Raises ``ValueError`` where ``models`` is less than 1, ``TypeError`` where the objective
    returns no number; an exception of the objective ends the search.
    """
    if not isinstance(models, int) or models < 1:
        raise ValueError(f"models must be a whole number, at least 1, not {models!r}")
    sign = 1.0 if maximise else -1.0
    nan = float("nan")
    tried = []
    for _ in range(models):
        (arch,) = searcher.ask()
        value = _number(objective(arch))
        searcher.tell([arch], [Evaluation(sign * value, value, nan, nan)])
        tried.append((arch, value))
    best, value = max(tried, key=lambda pair: comparable(sign * pair[1]))
    return Found(best, value, tried)


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"the objective must return a number, not {value!r}") from None
