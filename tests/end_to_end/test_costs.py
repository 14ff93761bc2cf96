from __future__ import annotations

import csv
import json

import pytest

from run_search import search

SMALL = [
    "space.dataset=cifar100",
    "cost=latency_ms",
    "budget.device=raspi4",
    "budget.models=40",
    "trials=3",
    "service=inline",
]


def rows(directory):
    with (directory / "trajectory.csv").open() as file:
        return list(csv.DictReader(file))


def summary(directory):
    return json.loads((directory / "summary.json").read_text())


def test_searches_for_accurate_and_fast_models_are_compared(run, tmp_path):
    limited = ["budget.max_latency_ms=20", "budget.max_flops=5e7"]
    run("run_search.py", *SMALL, "searcher=nsga2", "hydra.run.dir=out/nsga2")
    run("run_search.py", *SMALL, *limited, "searcher=random", "hydra.run.dir=out/random")
    run("run_report.py", "out", "--out", "report")

    free, held = (summary(tmp_path / "out" / name) for name in ("nsga2", "random"))
    assert free["cost"] == held["cost"] == "latency_ms(raspi4)"
    assert list(free["costs"]) == ["latency_ms(raspi4)"]
    assert list(held["costs"]) == ["latency_ms(raspi4)", "flops"]
    assert held["costs"]["flops"] == {"unit": "multiply-adds", "source": "nasbench201"}
    assert held["budget"]["max_latency_ms"] == 20
    assert held["budget"]["device"] == "raspi4"
    assert 0.8 < free["hypervolume"]["share"] < 1
    assert held["hypervolume"]["reference"]["best"] < free["hypervolume"]["reference"]["best"]
    within = rows(tmp_path / "out" / "random")
    assert list(within[0])[9:] == ["proxy_evaluations", "latency_ms(raspi4)", "flops"]
    assert max(float(row["latency_ms(raspi4)"]) for row in within) <= 20
    assert max(float(row["flops"]) for row in within) <= 5e7
    assert max(float(row["latency_ms(raspi4)"]) for row in rows(tmp_path / "out" / "nsga2")) > 20

    table = (tmp_path / "report" / "table.md").read_text()
    assert "hypervolume latency_ms(raspi4) (value times ms)" in table  # with and without a limit
    page = (tmp_path / "report" / "index.html").read_text()
    assert "random, flops ≤ 50,000,000, latency_ms ≤ 20 on raspi4" in page
    assert "Pareto fronts: the best val" in page
    figures = {path.name for path in (tmp_path / "report" / "figures").glob("*.svg")}
    assert "nasbench201-cifar100-front_latency_ms_raspi4.svg" in figures
    assert "nasbench201-cifar100-hypervolume_latency_ms_raspi4.svg" in figures


MISTAKES = {
    "budget.max_flops=1000": "the smallest possible is 7943872 multiply-adds.",
    "budget.max_flops=much": "budget.max_flops=much must be a number or null.",
    "budget.max_latency_ms=20": "latency_ms needs a device; give budget.device=raspi4",
    "budget.max_price=3": "budget.max_price is no setting of budget",
    "cost=price": "cost=price is unknown; choose one of: energy_mj, flops, latency_ms, params.",
    "searcher=nsga2": "searcher=nsga2 needs a second objective; give cost=params, flops,",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_in_one_sentence(mistake, refused):
    assert MISTAKES[mistake] in refused(search, "config", mistake)
