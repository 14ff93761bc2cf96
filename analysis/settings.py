"""What the configuration in a run's summary says; older summaries say less."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_OF_NETWORKS: Final = ("image_size", "channels", "cells", "layers")
"""Settings of spaces that decide how large networks are, and nothing else."""


def part(config: object, name: str) -> dict[str, Any]:
    """Return one part of a configuration; empty where it is not recorded."""
    found = config.get(name) if isinstance(config, dict) else None
    return found if isinstance(found, dict) else {}


def of_space(summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that tell a run's space from others of its name and dataset.

    How large the networks are does not, where a table has the accuracies.
    """
    aside = {"_target_", "dataset"}
    if part(summary, "benchmark").get("kind") == "table":
        aside |= {*_OF_NETWORKS}
    settings = part(summary.get("config"), "space")
    return {key: value for key, value in settings.items() if key not in aside and value is not None}


def apart(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each run by which settings it differs from the others; empty if none is known."""
    flat = [dict(_flat(summary.get("config"))) for summary in summaries]
    paths = dict.fromkeys(path for config in flat for path in config)
    told = [path for path in paths if not path.startswith("benchmark.")]  # which they share
    differing = [path for path in told if len({str(config.get(path)) for config in flat}) > 1]
    last = [path.rpartition(".")[2] for path in differing]
    names = [
        key if last.count(key) == 1 else path for path, key in zip(differing, last, strict=True)
    ]
    return [
        ", ".join(
            f"{name} {_word(config[path])}"
            for name, path in zip(names, differing, strict=True)
            if config.get(path) is not None
        )
        for config in flat
    ]


def _word(value: object) -> str:
    """Write a setting as a command line does."""
    if isinstance(value, list):
        return f"[{','.join(map(_word, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(config: object, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the settings of a configuration with their paths, but for the names of classes."""
    if not isinstance(config, dict):
        if path:
            yield path, config
        return
    for key, value in config.items():
        if key != "_target_":
            yield from _flat(value, f"{path}.{key}" if path else key)


def of_guidance(summary: Mapping[str, Any], name: str, key: str) -> str | None:
    """Return a setting of the guidance, where this part of it is on and recorded."""
    settings = part(part(summary.get("config"), "guidance"), name)
    return str(settings.get(key)) if settings.get("enabled") else None


def of_path(config: object, path: str) -> str:
    """Return the setting at a path such as ``searcher.population``, as text."""
    name, _, key = path.partition(".")
    return str(part(config, name).get(key))


def is_shipped_table(summary: Mapping[str, Any]) -> bool:
    """Whether accuracies are those of the table that comes with the space, means over its seeds."""
    settings = part(summary.get("config"), "benchmark")
    shipped = part(summary, "benchmark").get("kind") == "table" and settings.get("path") is None
    return shipped and settings.get("seeds") == "mean"


def is_limited(summary: Mapping[str, Any]) -> bool:
    """Whether models may cost only so much, or trials take only so long."""
    limits = [v for k, v in summary["budget"].items() if k.startswith("max_")]
    return any(v is not None for v in (*limits, summary["budget"].get("train_seconds")))
