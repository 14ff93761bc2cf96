"""Zero-cost proxies, the passes that they read, and the service that scores with them.

``from proxies import score_model`` scores any ``nn.Module``; ``ScoringService`` scores
architectures of a space. Importing the package loads neither torch nor the proxies.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from proxies.engine import ProxyEngine, score_model
    from proxies.ranking import PoolScorer, ProxyScorer, ProxyScores
    from proxies.registry import register
    from proxies.service import ScoreTable, ScoringService

__all__ = [
    "PoolScorer",
    "ProxyEngine",
    "ProxyScorer",
    "ProxyScores",
    "ScoreTable",
    "ScoringService",
    "register",
    "score_model",
]

_HOMES = {
    "PoolScorer": "ranking",
    "ProxyEngine": "engine",
    "ProxyScorer": "ranking",
    "ProxyScores": "ranking",
    "ScoreTable": "service",
    "ScoringService": "service",
    "register": "registry",
    "score_model": "engine",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'proxies' has no attribute '{name}'")
    return getattr(importlib.import_module(f"proxies.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
