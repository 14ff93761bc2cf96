"""Run a Hydra command so that a user's mistake ends in one sentence and exit status 2."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from conf.errors import UsageError

GROUPS = (
    "space",
    "benchmark",
    "searcher",
    "guidance",
    "proxy",
    "budget",
    "service",
    "batch",
    "experiment",
)


def run(task: Callable[[Any], None], config_name: str) -> None:
    """Compose ``conf/<config_name>.yaml`` with the command line and run ``task`` on it.

    ``--list`` prints what there is to choose from. Raises ``SystemExit``: 0 when done, 2 on a
    mistake of the user's, 130 when interrupted; other exceptions keep their traceback.
    """
    if "--list" in sys.argv[1:]:
        print(listing())
        return
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    here = str(Path.cwd())
    if here not in sys.path:  # modules of the user's own
        sys.path.append(here)
    # Hydra prints exceptions itself, with exit status 1, unless told to let them through.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    running = False

    def job(cfg: Any) -> None:
        nonlocal running
        running = True
        try:
            task(cfg)
        except UsageError as error:
            _remove_if_empty(output_directory())
            fail(str(error))
        running = False

    try:
        hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        fail(sentence(error))
    except (OSError, ValueError, RuntimeError) as error:
        if running:
            raise
        place = "hydra.run.dir or hydra.sweep.dir cannot be used: "
        fail(f"{place if isinstance(error, OSError) else ''}{error}.")
    except KeyboardInterrupt:
        print("interrupted; the same command in the same directory goes on from here.", flush=True)
        sys.exit(130)


def output_directory() -> Path:
    """Return the directory of the running job."""
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def fail(message: str) -> NoReturn:
    """Print one sentence to standard error and exit with status 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _remove_if_empty(directory: Path) -> None:
    """Leave no empty directory behind where nothing was run."""
    with contextlib.suppress(OSError):
        directory.rmdir()


def sentence(error: Exception) -> str:
    """Say in one sentence what Hydra or OmegaConf objects to, with the legal values."""
    missing = getattr(error, "missing_cfg_file", None)
    if str(missing).startswith("hydra/launcher/submitit_"):
        return (
            "hydra/launcher=slurm and slurm_local need packages that are not installed; "
            "run pip install 'assay[slurm]'."
        )
    options = getattr(error, "options", None)
    if missing and options is not None:
        group, _, name = str(missing).rpartition("/")
        return f"{group}={name} is unknown; choose one of: {', '.join(sorted(options))}."
    for link in (error, error.__cause__):
        full_key, parent = getattr(link, "full_key", None), getattr(link, "parent_node", None)
        if full_key and parent is not None:
            prefix = full_key.rpartition(".")[0]
            legal = ", ".join(str(k) for k in parent if k not in ("_target_", "hydra"))
            return f"{full_key} is no setting of {prefix or 'this command'}; legal are: {legal}."
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text if text.endswith(".") else text + "."


def listing() -> str:
    """Every group with its options and their one-line descriptions."""
    root = Path(__file__).parent
    groups = {group: sorted((root / group).glob("*.yaml")) for group in GROUPS}
    width = max(len(file.stem) for files in groups.values() for file in files)
    blocks = [
        "\n".join([f"{group}=", *(f"  {file.stem:<{width}}  {_headline(file)}" for file in files)])
        for group, files in groups.items()
    ]
    return "\n\n".join(blocks)


def _headline(file: Path) -> str:
    """Return the first comment of a YAML file that is not a Hydra directive."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and not line.startswith("# @"):
            return line[2:]
    return ""
