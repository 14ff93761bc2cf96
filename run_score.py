"""Score architectures of a space with zero-cost proxies, or a network of one's own.

python run_score.py space=nasbench201 proxies=[synflow,params] archs=1000 seed=0
python run_score.py "proxies=['reduced_training(epochs=3,resolution=16)']" batch.size=512
python run_score.py operations=perturbation proxies=[naswot_eval] draws=4
python run_score.py "+formulas.mine='mean_abs(weight_gradient_noise)'"
python run_score.py model=mypackage.models:build proxies=[synflow] batch=random
"""

from __future__ import annotations

import csv
import functools
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote

from conf import app
from conf.errors import UsageError
from conf.schema import build, check, described, locate

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

_FILES = (
    *("scores.csv", "scores.json", "correlation.json", "batch.json", "about.json"),
    *("operations.csv", "operations.json", "rank_*.png", "rank_*.svg"),
)
"""What a job writes."""

_BELONGS = {"output": "model", "draws": "operations", "iterations": "operations"}
"""Settings that only mean something beside another."""

_LONGEST = 200
"""Characters of the name of a file."""

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from omegaconf import DictConfig
    from torch import nn

    from proxies.service import ScoreTable
    from spaces.base import Architecture, SearchSpace
    from spaces.benchmark import Benchmark


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
    output: str | None
    accuracy: Literal["test", "val"] | None
    operations: Literal["perturbation", "discretisation", "best"] | None
    draws: int
    iterations: int | None
    formulas: dict[str, str]

    def __post_init__(self) -> None:
        from proxies import registry

        if not self.proxies and not self.formulas:
            raise UsageError("proxies=[] names no proxy; give at least one.")
        for name in self.proxies:
            registry.canonical(name)
        for name in ("draws", "iterations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name}={value} must be at least 1.")
        for title, formula in self.formulas.items():
            if title in registry.describe():
                raise UsageError(f"formulas.{title} cannot be: there is a proxy of that name.")
            try:
                registry.get("program", formula=formula)
            except UsageError as error:
                found = str(error).replace("proxy.formula", f"formulas.{title}")
                raise UsageError(found) from None
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
    directory = app.output_directory()
    if settings.model is not None:
        _refuse_beside(
            "model", "archs", "accuracy", "benchmark", "operations", "draws", "iterations"
        )
        _score_model(settings, settings.model, directory)
    elif settings.operations is not None:
        _refuse_beside("operations", "archs", "accuracy", "formulas", "output")
        _score_operations(settings, directory)
    else:
        _refuse_beside(None, *_BELONGS)
        _score_space(settings, directory)


def _refuse_beside(what: str | None, *unread: str) -> None:
    """Refuse settings of the command line that mean nothing to what is scored."""
    for name in app.given():
        if name not in unread:
            continue
        if what:
            raise UsageError(f"{name} says nothing of what {what}=… scores; leave it out.")
        raise UsageError(f"{name} belongs to {_BELONGS[name]}=…; give that, too, or leave it out.")


def _score_space(settings: Settings, directory: Path) -> None:
    from analysis.files import write_json, write_text
    from proxies import ranking
    from proxies.batch import shown

    space = build(settings.space, "space")
    benchmark = _benchmark(settings, space)
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
    column, accuracy = _accuracy(benchmark, archs, settings) if benchmark else (None, None)
    _clear(directory)
    statistics: dict[str, dict[str, float]]
    if benchmark is None or accuracy is None:
        statistics = {title: _counts(table, name) for name, title in titles.items()}
    else:
        statistics = {
            title: _correlate(table, name, title, accuracy, benchmark, directory)
            for name, title in titles.items()
        }
        write_json(directory / "correlation.json", statistics)
    write_text(directory / "scores.csv", _scores_csv(space, table, titles, accuracy))
    if batch := shown(service):
        write_json(directory / "batch.json", batch.describe())
    _write_about(
        settings,
        directory,
        space=space.name,
        dataset=space.dataset,
        benchmark=benchmark.describe() if benchmark else None,
        accuracy=column,
        not_scored={title: _reasons(table, name) for name, title in titles.items()},
    )
    compared = f"{column} {benchmark.metric}" if benchmark and column else "no accuracies"
    _print_statistics(statistics, f"{space.name} {space.dataset}: {compared}")
    for reason, count in sorted(Counter(table.reasons.values()).items()):
        app.say(f"{count} scores are NaN: {reason}")
    if batch and batch.stand_in:
        app.say(f"{batch.stand_in}.")
    app.say(f"{service.account()} -> {directory}")


def _benchmark(settings: Settings, space: SearchSpace) -> Benchmark | None:
    """Build the benchmark; None where the space has no table and nothing asks for one."""
    from spaces.table import NoTableError

    try:
        return cast("Benchmark", build(settings.benchmark, "benchmark", space=space))
    except NoTableError:
        if settings.accuracy is not None:
            raise
        return None


def _accuracy(
    benchmark: Benchmark, archs: list[Architecture], settings: Settings
) -> tuple[str | None, NDArray[np.float64] | None]:
    """Look up what scores are compared with: ``test`` or ``val``, and its values [n].

    None, where the benchmark has neither of these architectures.
    """
    import numpy as np

    rng = np.random.default_rng(settings.seed)
    evaluations = [benchmark.evaluate(arch, rng) for arch in archs]
    for column in (settings.accuracy,) if settings.accuracy else ("test", "val"):
        accuracy = np.array([getattr(evaluation, column) for evaluation in evaluations])
        if not np.isnan(accuracy).all():
            return column, accuracy
    if settings.accuracy:
        raise UsageError(
            f"accuracy={settings.accuracy}: the benchmark has no such values; leave it null."
        )
    return None, None


def _write_about(settings: Settings, directory: Path, **about: Any) -> None:
    """Write down what was scored, by what versions, and the configuration."""
    from analysis.files import write_json

    app.save_config(settings)
    write_json(directory / "about.json", about | {"versions": app.versions()})


def _clear(directory: Path) -> None:
    """Remove what an earlier job wrote here, of which this one may not write all."""
    if not (directory / "about.json").exists():
        return
    for pattern in _FILES:
        for file in directory.glob(pattern):
            file.unlink()


def _reasons(table: ScoreTable, name: str) -> dict[str, int]:
    """Count the reasons why scores of a proxy are NaN."""
    return dict(Counter(reason for (_, proxy), reason in table.reasons.items() if proxy == name))


def _counts(table: ScoreTable, name: str) -> dict[str, float]:
    """Count the scores of a proxy."""
    import numpy as np

    missing = int(np.isnan(table.column(name)).sum())
    return {"n": len(table.architectures) - missing, "nan": missing} | _seconds(table, name)


def _seconds(table: ScoreTable, name: str) -> dict[str, float]:
    return {"seconds_per_arch": float(table.seconds[:, table.names.index(name)].mean())}


def _correlate(
    table: ScoreTable,
    name: str,
    title: str,
    accuracy: NDArray[np.float64],
    benchmark: Benchmark,
    directory: Path,
) -> dict[str, float]:
    """Correlate one proxy with accuracy, and draw both."""
    from analysis.figures import rank_scatter, save_figure
    from analysis.ranks import correlations, pairwise_concordance
    from proxies import ranking, registry

    values = table.column(name)
    ensemble = registry.ensembles().get(name)
    found = correlations(
        values,
        accuracy,
        higher_is_better=ensemble is not None or registry.get(name).higher_is_better,
        higher_accuracy_is_better=benchmark.higher_is_better,
    ) | _seconds(table, name)
    if ensemble and ensemble.pairwise:
        verdicts = ensemble.pairwise(ranking.goodness(table, ensemble.members))
        merit = accuracy if benchmark.higher_is_better else -accuracy
        found["concordance"] = pairwise_concordance(verdicts, merit)
    unit = f" ({benchmark.unit})" if benchmark.unit else ""
    save_figure(
        rank_scatter(values, accuracy, title, ylabel=benchmark.metric + unit),
        directory / f"rank_{quote(title, safe='(),=')[:_LONGEST]}",
    )
    return found


def _score_operations(settings: Settings, directory: Path) -> None:
    import dataclasses

    from analysis.files import write_json, write_text
    from analysis.operations import Achievable, averages, pooled, study
    from proxies import registry
    from proxies.ranking import Judge, ProxyScorer
    from searchers.perturbation import Perturbation

    assert settings.operations is not None
    space = build(settings.space, "space")
    achievable = Achievable(space)
    service = build(
        settings.service,
        "service",
        space=space,
        batch=lambda space: build(settings.batch, "batch", space=space),
    )
    found: dict[str, Any] = {}
    rows = ["proxy,draw,iteration,place,operation,merit,best,average"]
    for name in dict.fromkeys(map(registry.canonical, settings.proxies)):
        judge = Judge(
            service,
            functools.partial(ProxyScorer, name=name),
            lambda space, seed: build(settings.batch | {"seed": seed}, "batch", space=space),
        )
        search = Perturbation(space, judge=judge, seed=settings.seed, score=settings.operations)
        agreements, choices = study(
            search, achievable, draws=settings.draws, iterations=settings.iterations
        )
        for a in agreements:
            columns = zip(a.operations, a.merits, a.best, a.average, strict=True)
            rows += [
                f"{name},{a.draw},{a.iteration},{a.place},{operation},{merit!r},{best!r},{mean!r}"
                for operation, merit, best, mean in columns
            ]
        iterations = sorted({a.iteration for a in agreements})
        best, average = pooled(agreements)
        found[name] = {
            "score": settings.operations,
            "draws": settings.draws,
            "best_of": "single runs" if achievable.of_runs else "means over runs",
            "spearman_best": [averages(agreements, i)[0] for i in iterations],
            "spearman_average": [averages(agreements, i)[1] for i in iterations],
            "pooled": {"spearman_best": best, "spearman_average": average},
            "choices": [dataclasses.asdict(choice) for choice in choices],
        }
        print(f"{name}, {settings.operations}, {settings.draws} draws:")
        print(f"  mean of the draws: Spearman {best:.3f} with best, {average:.3f} with average")
        for i in iterations:
            best, average = averages(agreements, i)
            print(f"  iteration {i}: Spearman {best:.3f} with best, {average:.3f} with average")
        for choice in choices:
            print(f"  {choice.architecture}: test {choice.test:.2f}, rank {choice.rank}")
    _clear(directory)
    write_text(directory / "operations.csv", "\n".join(rows) + "\n")
    write_json(directory / "operations.json", found)
    _write_about(settings, directory, space=space.name, dataset=space.dataset)
    app.say(f"{service.account()} -> {directory}")


def _architectures(space: SearchSpace, archs: int | str, seed: int) -> list[Architecture]:
    """Draw, enumerate, or read the architectures to score."""
    import numpy as np

    from spaces.base import distinct

    if archs == "all":
        space.check_all()
        return list(space.enumerate())
    if isinstance(archs, str):
        try:
            lines = Path(archs).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"archs={archs} is neither a number, nor all, nor a readable file: {error}."
            ) from None
        found = [space.parse(line) for line in lines if line.strip()]
        if not found:
            raise UsageError(f"archs={archs} names no architecture; write one a line.")
        return found
    if not 1 <= archs <= space.size:
        raise UsageError(f"archs={archs} must lie between 1 and the {space.size} of {space.name}.")
    return distinct(space, np.random.default_rng(seed), archs)


def _scores_csv(
    space: SearchSpace,
    table: ScoreTable,
    titles: dict[str, str],
    accuracy: NDArray[np.float64] | None,
) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rows = table.values[:, [table.names.index(name) for name in titles]].tolist()
    if accuracy is None:
        writer.writerow(["architecture", *titles.values()])
    else:
        writer.writerow(["architecture", *titles.values(), "accuracy"])
        for row, value in zip(rows, accuracy, strict=True):
            row.append(round(float(value), 4))
    for arch, row in zip(table.architectures, rows, strict=True):
        writer.writerow([space.format(arch), *row])
    return text.getvalue()


def _print_statistics(statistics: dict[str, dict[str, float]], title: str) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    view = Table(title=title, box=SIMPLE, padding=(0, 1, 0, 0))
    view.add_column("proxy", no_wrap=True)
    columns = [c for c in _HEADINGS if all(c in row for row in statistics.values())]
    for column in columns:
        view.add_column(_HEADINGS[column], justify="right", no_wrap=True)
    for name, row in statistics.items():
        cells = [f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in columns]
        if "spearman" in columns:
            cells[0] += f" [{row['spearman_low']:.2f}, {row['spearman_high']:.2f}]"
        view.add_row(name, *cells)
    console = Console()
    whole = Measurement.get(console, console.options.update(width=1000), view).maximum
    Console(width=max(console.width, whole)).print(view)  # a terminal may wrap whole lines


def _score_model(settings: Settings, model: str, directory: Path) -> None:
    from analysis.files import write_json
    from proxies import registry
    from proxies.engine import explained_scores

    network = _network(model, settings.seed)
    output = None if settings.output is None else locate(settings.output, "output")
    space = build(settings.space, "space")
    batch = build(settings.batch, "batch", space=space)
    titles = settings.titles
    read = [registry.get(name) for name in titles]
    targets = batch.targets if any(proxy.needs_labels for proxy in read) else None
    try:
        found, why = explained_scores(network, batch.inputs, targets, list(titles), output=output)
    except UsageError as error:
        classes = " With batch=random, batch.classes says how many there are."
        raise UsageError(f"{error}{classes * ('targets must be' in str(error))}") from None
    scores = {titles[name]: value for name, value in found.items()}
    reasons = {titles[name]: reason for name, reason in why.items()}
    _clear(directory)
    write_json(
        directory / "scores.json",
        {"model": model, "batch": batch.describe(), **scores, "reasons": reasons},
    )
    _write_about(settings, directory)
    if batch.stand_in and any(proxy.needs_data for proxy in read):
        app.say(f"{batch.stand_in}.")
    for proxy, value in scores.items():
        app.say(f"{proxy}: {reasons.get(proxy) or f'{value:.6g}'}")


def _network(model: str, seed: int) -> nn.Module:
    """Build the network that ``model`` names; what chance decides of it, ``seed`` does."""
    import torch

    if ":" not in model:
        raise UsageError(f"model={model} must be written package.module:function.")
    torch.manual_seed(seed)
    found = locate(model, "model")
    if isinstance(found, torch.nn.Module):
        return found
    try:
        network = found()
    except Exception as error:
        raise UsageError(f"model={model} cannot be built: {described(error)}.") from error
    if not isinstance(network, torch.nn.Module):
        raise UsageError(
            f"model={model} must return a torch.nn.Module, not {type(network).__name__}."
        )
    return network


def main() -> None:
    """Entry point of ``assay-score``."""
    app.run(score, "score")


if __name__ == "__main__":
    # By its name: jobs on other machines import what __main__ has.
    import run_score

    run_score.main()
