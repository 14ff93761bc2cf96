"""Run a Hydra command: a user's mistake ends in one sentence, what was accepted is written down."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import platform
import re
import sys
from collections.abc import Callable
from importlib import metadata
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
    mistake of the user's, 130 when interrupted; other exceptions keep their traceback. A sweep goes
    on after a job that is refused, and says so again at its end.
    """
    if "--list" in sys.argv[1:]:
        print(listing(config_name))
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
    refused: list[str] = []

    def job(cfg: Any) -> None:
        nonlocal running
        running = True
        try:
            task(cfg)
        except UsageError as error:
            _remove_if_empty(output_directory())
            if not _is_sweep_here():
                fail(str(error))
            if str(error) not in refused:
                print(f"error: {error}", file=sys.stderr)
            refused.append(str(error))
        running = False

    try:
        hydra.main(version_base="1.3", config_path="pkg://conf", config_name=config_name)(job)()
    except (HydraException, OmegaConfBaseException) as error:
        fail(sentence(error, config_name))
    except (OSError, ValueError, RuntimeError) as error:
        if running:
            raise
        if not isinstance(error, OSError):
            fail(sentence(error, config_name))
        fail(f"hydra.run.dir or hydra.sweep.dir cannot be used: {error}.")
    except KeyboardInterrupt:
        print("interrupted; the same command in the same directory goes on from here.", flush=True)
        sys.exit(130)
    if refused:
        fail(f"of the jobs of the sweep {len(refused)} were refused, for what is said above.")


def _is_sweep_here() -> bool:
    """Whether the running job is one of a sweep that this process runs one after the other."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    config = HydraConfig.get()
    own = config.launcher._target_.endswith(".BasicLauncher")
    return config.mode == RunMode.MULTIRUN and own


def output_directory() -> Path:
    """Return the directory of the running job."""
    from hydra.core.hydra_config import HydraConfig

    return Path(HydraConfig.get().runtime.output_dir)


def given() -> list[str]:
    """Return the settings and groups, at the top level, that the command line gives."""
    from hydra.core.hydra_config import HydraConfig

    words = [word.lstrip("+~") for word in HydraConfig.get().overrides.task]
    return [word.partition("=")[0].partition(".")[0].partition("/")[0] for word in words]


def say(text: str) -> None:
    """Print a line, and write it into the job's log."""
    print(text)
    logging.getLogger("assay").info(text)


def save_config(settings: Any) -> None:
    """Write what Hydra writes into ``.hydra``, of an accepted configuration, a dataclass."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    hydra = HydraConfig.get()
    folder = output_directory() / ".hydra"
    folder.mkdir(parents=True, exist_ok=True)
    config = OmegaConf.create(dataclasses.asdict(settings))
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(config))
    (folder / "overrides.yaml").write_text(OmegaConf.to_yaml(hydra.overrides.task))
    (folder / "hydra.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create({"hydra": hydra})))


def versions() -> dict[str, str]:
    """Return the versions of Python, Assay, and the packages that results may depend on."""
    found = {"python": platform.python_version()}
    for package in ("assay", "numpy", "torch", "scikit-learn", "xgboost-cpu", "xgboost"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def fail(message: str) -> NoReturn:
    """Print one sentence to standard error and exit with status 2."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)


def _remove_if_empty(directory: Path) -> None:
    """Leave no empty directory behind where nothing was run."""
    with contextlib.suppress(OSError):
        directory.rmdir()


def sentence(error: Exception, config_name: str) -> str:
    """Say in one sentence what Hydra or OmegaConf objects to, with the legal values."""
    foreign = re.match(r"Could not override '(\w+)'", str(error))
    if foreign and foreign[1] in GROUPS:
        groups = ", ".join(_groups(config_name))
        instead = " Give proxies=[…]." if (foreign[1], config_name) == ("proxy", "score") else ""
        return f"{foreign[1]} is no group of this command; its groups are: {groups}.{instead}"
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
    if wrong := _no_option():
        return wrong
    for link in (error, error.__cause__):
        full_key, parent = getattr(link, "full_key", None), getattr(link, "parent_node", None)
        if full_key and parent is not None:
            prefix = full_key.rpartition(".")[0]
            legal = ", ".join(str(k) for k in parent if k not in ("_target_", "hydra"))
            known = f"legal are: {legal}" if legal else "it has none"
            return f"{full_key} is no setting of {prefix or 'this command'}; {known}."
    text = re.sub(r"\s+", " ", str(error)).strip()
    return text if text.endswith(".") else text + "."


def _no_option() -> str | None:
    """Find a group that the command line takes away, or sets to a number or null."""
    for argument in sys.argv[1:]:
        group, _, given = argument.removeprefix("~").partition("=")
        if group in GROUPS and (argument[0] == "~" or not given[:1].isalpha() or given == "null"):
            options = ", ".join(file.stem for file in _options(group))
            return f"{argument} leaves no {group}; choose one of: {options}."
    return None


def _options(group: str) -> list[Path]:
    return sorted((Path(__file__).parent / group).glob("*.yaml"))


def _groups(config_name: str) -> list[str]:
    """Return the groups that ``conf/<config_name>.yaml`` has a default of."""
    from omegaconf import OmegaConf

    defaults = OmegaConf.load(Path(__file__).parent / f"{config_name}.yaml").defaults
    named = {str(key) for default in defaults if default != "_self_" for key in default}
    return [group for group in GROUPS if group in named]


def listing(config_name: str = "config") -> str:
    """Every group of a command with its options and their one-line descriptions.

    ``run_score.py`` has no group of proxies: theirs are the names for its list.
    """
    titles = {group: group for group in _groups(config_name)} | {"proxy": "proxy"}
    if config_name == "score":
        titles["proxy"] = "proxies"
    groups = {title: _options(group) for group, title in titles.items()}
    width = max(len(file.stem) for files in groups.values() for file in files)
    blocks = [
        "\n".join([f"{title}=", *(f"  {file.stem:<{width}}  {_headline(file)}" for file in files)])
        for title, files in groups.items()
    ]
    return "\n\n".join(blocks)


def _headline(file: Path) -> str:
    """Return the first comment of a YAML file that is not a Hydra directive."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("# ") and not line.startswith("# @"):
            return line[2:]
    return ""
