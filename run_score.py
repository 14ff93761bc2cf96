"""Score architectures of a space with zero-cost proxies, or a network of one's own.

python run_score.py space=nasbench201 proxies=[synflow,params] archs=1000 seed=0
python run_score.py "proxies=['reduced_training(epochs=3,resolution=16)']" batch.size=512
python run_score.py "+formulas.mine='mean_abs(weight_gradient_noise)'"
python run_score.py model=mypackage.models:build proxies=[synflow] batch=random
"""

from __future__ import annotations

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote

from conf import app
from conf.errors import UsageError
from conf.schema import build, check

_HEADINGS = {
    "spearman": "rho",
    "kendall": "tau",
    "concordance": "pairs",
    "spearman_top10": "top rho",
    "overlap_top10": "top in",
    "n": "n",
    "nan": "NaN",
    "seconds_per_arch": "s",
}
"""What ``correlation.json`` calls each statistic, and the printed table."""

_LONGEST = 200
"""Characters of the name of a file."""

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from omegaconf import DictConfig

    from proxies.service import ScoreTable
    from spaces.base import Architecture, SearchSpace


@dataclass(frozen=True)
class Settings:
    """The top level of ``score.yaml``."""

    space: Any
    benchmark: Any
    service: Any
    batch: Any
    proxies: list[str]
    archs: int | str
    seed: int
    model: str | None
    accuracy: Literal["test", "val"] | None
    formulas: dict[str, str]

    def __post_init__(self) -> None:
        from proxies import registry

        if not self.proxies and not self.formulas:
            raise UsageError("proxies=[] names no proxy; give at least one.")
        for name in self.proxies:
            registry.canonical(name)
        for title, formula in self.formulas.items():
            if title in registry.describe():
                raise UsageError(f"formulas.{title} cannot be: there is a proxy of that name.")
            registry.get("program", formula=formula)
        if self.seed < 0:
            raise UsageError(f"seed={self.seed} must not be negative.")

    @property
    def titles(self) -> dict[str, str]:
        """What each proxy is called in the results, by its name."""
        from proxies import registry

        named = {
            registry.get("program", formula=formula).name: title
            for title, formula in self.formulas.items()
        }
        return {name: name for name in map(registry.canonical, self.proxies)} | named


def score(cfg: DictConfig) -> None:
    """Run one scoring job and write its files into its directory."""
    from omegaconf import OmegaConf

    config = cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True))
    check(Settings, config, "", {})
    settings = Settings(**config)
    if settings.model is None:
        _score_space(settings, app.output_directory())
    else:
        _score_model(settings, settings.model, app.output_directory())


def _score_space(settings: Settings, directory: Path) -> None:
    import numpy as np

    from analysis.figures import rank_scatter, save_figure
    from analysis.files import write_json, write_text
    from analysis.ranks import correlations, pairwise_concordance
    from proxies import ranking, registry
    from proxies.batch import shown

    space = build(settings.space, "space")
    benchmark = build(settings.benchmark, "benchmark", space=space)
    service = build(
        settings.service,
        "service",
        space=space,
        batch=lambda space: build(settings.batch, "batch", space=space),
    )
    archs = _architectures(space, settings.archs, settings.seed)
    titles = settings.titles
    names = list(titles)
    table = ranking.score(service, archs, names)
    rng = np.random.default_rng(settings.seed)
    evaluations = [benchmark.evaluate(arch, rng) for arch in archs]
    column = settings.accuracy
    if column is None:
        column = "val" if all(np.isnan(e.test) for e in evaluations) else "test"
    accuracy = np.array([getattr(evaluation, column) for evaluation in evaluations])
    if np.isnan(accuracy).all():
        raise UsageError(f"accuracy={column}: the benchmark has no such values; leave it null.")
    write_text(directory / "scores.csv", _scores_csv(space, table, titles, accuracy))
    if batch := shown(service):
        write_json(directory / "batch.json", batch.describe())
    statistics = {}
    for name in names:
        values, seconds = table.column(name), table.seconds[:, table.names.index(name)]
        ensemble = registry.ensembles().get(name)
        better = ensemble is not None or registry.get(name).higher_is_better
        title = titles[name]
        statistics[title] = correlations(values, accuracy, higher_is_better=better) | {
            "seconds_per_arch": float(np.mean(seconds))
        }
        if ensemble and ensemble.pairwise:
            verdicts = ensemble.pairwise(ranking.goodness(table, ensemble.members))
            statistics[title]["concordance"] = pairwise_concordance(verdicts, accuracy)
        save_figure(
            rank_scatter(values, accuracy, title),
            directory / f"rank_{quote(title, safe='(),=')[:_LONGEST]}",
        )
    write_json(directory / "correlation.json", statistics)
    _print_statistics(statistics, f"{space.name} {space.dataset}: {column} accuracy")
    for reason in sorted(set(table.reasons.values())):
        count = sum(r == reason for r in table.reasons.values())
        print(f"{count} scores are NaN: {reason}")
    if batch and batch.stand_in:
        print(f"{batch.stand_in}.")
    print(f"{service.account()} -> {directory}")


def _architectures(space: SearchSpace, archs: int | str, seed: int) -> list[Architecture]:
    """Draw, enumerate, or read the architectures to score."""
    import numpy as np

    if archs == "all":
        return list(space.enumerate())
    if isinstance(archs, str):
        try:
            lines = Path(archs).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"archs={archs} is neither a number, nor all, nor a readable file: {error}."
            ) from None
        return [space.parse(line) for line in lines if line.strip()]
    if not 1 <= archs <= space.size:
        raise UsageError(f"archs={archs} must lie between 1 and the {space.size} of {space.name}.")
    rng = np.random.default_rng(seed)
    found: dict[Architecture, None] = {}
    while len(found) < archs:
        found.update(dict.fromkeys(space.sample(rng, archs - len(found))))
    return list(found)


def _scores_csv(
    space: SearchSpace, table: ScoreTable, titles: dict[str, str], accuracy: NDArray[np.float64]
) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["architecture", *titles.values(), "accuracy"])
    values = table.values[:, [table.names.index(name) for name in titles]].tolist()
    for arch, row, value in zip(table.architectures, values, accuracy, strict=True):
        writer.writerow([space.format(arch), *row, round(float(value), 4)])
    return text.getvalue()


def _print_statistics(statistics: dict[str, dict[str, float]], title: str) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    view = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    view.add_column("proxy", overflow="fold")
    for heading in _HEADINGS.values():
        view.add_column(heading, justify="right", no_wrap=True)
    for name, row in statistics.items():
        cells = [f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in _HEADINGS]
        cells[0] += f" [{row['spearman_low']:.2f}, {row['spearman_high']:.2f}]"
        view.add_row(name, *cells)
    Console().print(view)


def _score_model(settings: Settings, model: str, directory: Path) -> None:
    from analysis.files import write_json
    from conf.schema import locate
    from proxies import registry, score_model

    module, colon, name = model.partition(":")
    if not colon:
        raise UsageError(f"model={model} must be written package.module:function.")
    sys.path.insert(0, str(Path.cwd()))
    network = locate(f"{module}.{name}", "model")()
    space = build(settings.space, "space")
    batch = build(settings.batch, "batch", space=space)
    titles = settings.titles
    found = score_model(network, batch.inputs, batch.targets, proxies=list(titles))
    scores = {titles[name]: value for name, value in found.items()}
    write_json(directory / "scores.json", {"model": model, "batch": batch.describe(), **scores})
    if batch.stand_in and any(registry.get(name).needs_data for name in titles):
        print(f"{batch.stand_in}.")
    for proxy, value in scores.items():
        print(f"{proxy}: {value:.6g}")


def main() -> None:
    """Entry point of ``assay-score``."""
    app.run(score, "score")


if __name__ == "__main__":
    # By its name: jobs on other machines import what __main__ has.
    import run_score

    run_score.main()
