"""Sampled statistics, and the benchmark of programs that reads them."""

import numpy as np
import pytest
import torch

from conf.errors import UsageError
from proxies import ScoringService, program_benchmark, samples
from proxies.batch import pictures
from proxies.passes import PASSES
from proxies.program_benchmark import INVALID, ProgramBenchmark, Task
from proxies.samples import Cut, collect
from spaces.proxy_programs.evaluation import evaluate
from spaces.proxy_programs.formula import parse
from spaces.proxy_programs.operations import OPERATIONS
from spaces.proxy_programs.space import ProxyPrograms
from tests.proxies.tiny_space import TinySpace

WHOLE = Cut(examples=16, channels=8, side=32)
# No gradients: where BatchNorm is last, as here, they are rounding; so is the sign of large
# determinants that are 0.
FORMULAS = (
    "frobenius(weight)",
    "mean(sign(input_data))",
    "sum_over_units(numel(activation_perturbed))",
    "frobenius(sigmoid(logdet(sign(weight))))",
)


@pytest.fixture(scope="module")
def space():
    return TinySpace(length=2)


@pytest.fixture(scope="module")
def batch(space):
    return pictures(space)


ARCHS = [(3, 3), (3, 2), (2, 1), (3, 1)]


def test_uncut_samples_give_the_score_of_the_proxy(space, batch, tmp_path):
    found = collect(space, ARCHS, batch, tmp_path, cut=WHOLE)
    service = ScoringService(space, store="memory", batch=batch)
    for formula in FORMULAS:
        scores = evaluate(parse(formula), found.groups, found.networks)
        expected = service.values(ARCHS, f"program(formula='{formula}')")
        np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_cut_samples_estimate_it(space, batch, tmp_path):
    found = collect(space, ARCHS, batch, tmp_path)
    counts = evaluate(parse("numel(activation_data)"), found.groups, 4)
    assert counts.tolist() == [16 * 4 * 8 * 8] * 4
    assert all(
        group.terminal("input_data").data.shape[1:] == (2, 4, 8, 8) for group in found.groups
    )


def test_what_was_sampled_is_not_sampled_again(space, batch, tmp_path, monkeypatch):
    """Not after a kill, either: each network is kept as it is done."""
    done = []
    work = samples._Work.__call__

    def counted(self, task):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task)
        return work(self, task)

    monkeypatch.setattr(samples._Work, "__call__", counted)
    with pytest.raises(KeyboardInterrupt):
        collect(space, ARCHS, batch, tmp_path)
    monkeypatch.setattr(samples._Work, "__call__", work)
    steps = []
    resumed = collect(space, ARCHS, batch, tmp_path, on_step=steps.append)
    assert steps == [2, 1, 1]
    undisturbed = collect(space, ARCHS, batch, tmp_path / "other")
    again = collect(space, ARCHS, batch, tmp_path, on_step=steps.append)
    assert steps == [2, 1, 1]
    for formula in map(parse, FORMULAS):
        scores = [evaluate(formula, s.groups, 4) for s in (undisturbed, resumed, again)]
        assert torch.equal(scores[0], scores[1])
        assert torch.equal(scores[0], scores[2])


def test_jobs_may_share_a_folder(space, batch, tmp_path, monkeypatch):
    """One computes all that it misses, while the other merges and tidies up."""
    run = samples._run

    def overtaken(*args):
        yield from run(*args)
        monkeypatch.setattr(samples, "_run", run)
        collect(space, ARCHS, batch, tmp_path)

    monkeypatch.setattr(samples, "_run", overtaken)
    found = collect(space, ARCHS, batch, tmp_path)
    again = collect(space, ARCHS, batch, tmp_path / "other")
    for formula in map(parse, FORMULAS):
        assert torch.equal(*(evaluate(formula, s.groups, 4) for s in (found, again)))
    (home,) = tmp_path.glob("tiny-*")
    assert {file.suffix for file in home.iterdir()} == {".npy", ""}
    assert {file.name for file in home.iterdir() if not file.suffix} == {"done"}


def test_a_merge_that_lacks_a_file_is_an_error(space, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "_run", lambda *_: ())
    with pytest.raises(FileNotFoundError):
        collect(space, ARCHS, batch, tmp_path)


def test_others_may_read_what_was_sampled(space, batch, tmp_path):
    collect(space, ARCHS, batch, tmp_path)
    usual = tmp_path / "usual"
    usual.touch()
    assert {f.stat().st_mode for f in tmp_path.glob("tiny-*/*")} == {usual.stat().st_mode}


def test_a_network_that_cannot_be_measured_has_no_units(space, batch, tmp_path, monkeypatch):
    def failing(run):
        raise RuntimeError(message)

    monkeypatch.setitem(PASSES, "statistics", failing)
    for message in ("out of memory", "CUDA error: misaligned address"):
        with pytest.raises(RuntimeError, match=message):
            collect(space, ARCHS, batch, tmp_path)
    message = "sizes of tensors must match"
    assert collect(space, ARCHS, batch, tmp_path).groups == []


def test_some_of_the_networks(space, batch, tmp_path):
    found = collect(space, ARCHS, batch, tmp_path)
    program = parse(FORMULAS[0])
    every = evaluate(program, found.groups, 4)
    some = found.of(np.array([3, 1]))
    torch.testing.assert_close(evaluate(program, some.groups, 2), every[[3, 1]])


def test_what_would_be_too_large_is_refused_beforehand(space, batch, tmp_path):
    with pytest.raises(UsageError, match=r"4 networks of tiny would take 0\.0 GB"):
        collect(space, ARCHS, batch, tmp_path, largest=1e-6)


def test_a_program_that_is_not_finite_or_constant_is_invalid(space, batch, tmp_path):
    task = Task("tiny", collect(space, ARCHS, batch, tmp_path), np.arange(4.0))
    for formula in ("invert(zeros(weight))", "exp(exp(exp(numel(weight))))", "mean(ones(weight))"):
        assert task.correlation(parse(formula)) == INVALID
    assert -1 <= task.correlation(parse("frobenius(input_gradient_noise)")) <= 1


@pytest.mark.parametrize("names", [["weight", "input_noise"], ["activation_perturbed"]])
def test_some_of_the_statistics_are_those_of_all(space, batch, tmp_path, names):
    whole = collect(space, ARCHS, batch, tmp_path)
    some = collect(space, ARCHS, batch, tmp_path, statistics=names)
    for name in names:
        scores = [evaluate(parse(f"frobenius({name})"), s.groups, 4) for s in (whole, some)]
        assert torch.equal(*scores)
    with pytest.raises(KeyError):
        evaluate(parse("mean(input_gradient_data)"), some.groups, 4)


def test_a_program_that_runs_out_of_memory_is_invalid(space, batch, tmp_path, monkeypatch):
    task = Task("tiny", collect(space, ARCHS, batch, tmp_path), np.arange(4.0))
    for too_much in (lambda a: a.like(torch.empty(2**52)), lambda a: bytearray(2**62)):
        monkeypatch.setitem(OPERATIONS, "abs", too_much)
        assert task.correlation(parse("mean(abs(weight))")) == INVALID


def test_rounding_ranks_nothing():
    scores = np.array([1.0, 1.0 + 1e-7, -3e30, -3e30 * (1 + 1e-7), 0.0, 2e-30, 1.001])
    rounded = program_benchmark._rounded(scores)
    assert rounded[0] == rounded[1] < rounded[6]
    assert rounded[2] == rounded[3]
    assert rounded[4] == 0 < rounded[5]
    np.testing.assert_allclose(rounded, scores, rtol=2e-5)


MISTAKES = {
    "programs; choose space=proxy_programs": {"space": TinySpace()},
    "names no task": {"train": []},
    "share nats_size": {"train": ["nats_size"], "test": ["nats_size:cifar100"]},
    "the task moonbase is no space": {"train": ["moonbase"]},
    "benchmark.networks=2": {"networks": 2},
    "benchmark.held_out=2": {"held_out": 2},
    "benchmark.finalists=0": {"finalists": 0},
    "exceeds benchmark.networks=5": {"networks": 5, "subsample": 6},
    "benchmark.combine=max": {"combine": "max"},
    "benchmark.processes=0": {"processes": 0},
    "benchmark.accuracy=train is unknown": {"accuracy": "train"},
    "the task darts has 1000 networks, fewer than": {"train": ["darts"], "networks": 950},
    "the task nasbench_macro has 6561 networks": {"test": ["nasbench_macro"], "networks": 6562},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_impossible_benchmarks_are_refused(mistake):
    settings = {"space": ProxyPrograms(), "train": ["nats_size"], "test": []} | MISTAKES[mistake]
    with pytest.raises(UsageError, match=mistake):
        ProgramBenchmark(**settings)


def test_a_benchmark_steers_by_one_space_and_tests_on_another(tmp_path):
    programs = ProxyPrograms()
    benchmark = ProgramBenchmark(
        programs, ["nats_size"], ["nasbench_macro"], networks=3, directory=str(tmp_path)
    )
    rng = np.random.default_rng(0)
    arch = programs.parse("sum_over_units(frobenius(abs(weight_gradient_noise)))")
    found = benchmark.evaluate(arch, rng)
    assert found.objective == found.val
    assert -1 <= found.val <= 1
    assert -1 <= found.test <= 1
    assert benchmark.evaluate(programs.canonical(arch), rng) is found
    invalid = benchmark.evaluate(programs.parse("invert(zeros(weight))"), rng)
    assert (invalid.objective, np.isnan(invalid.test)) == (INVALID, True)


def test_finalists_meet_networks_that_did_not_steer(tmp_path):
    programs = ProxyPrograms(statistics=["weight", "input_noise", "activation_noise"])
    benchmark = ProgramBenchmark(
        programs,
        ["nats_size"],
        [],
        networks=3,
        held_out=4,
        finalists=3,
        directory=str(tmp_path),
    )
    steering, others = benchmark.task("nats_size"), benchmark.task("nats_size", held_out=True)
    assert (steering.samples.networks, others.samples.networks) == (3, 4)
    val = {
        "frobenius(sign(input_noise))": 0.5,
        "frobenius(sign(abs(sign(input_noise))))": 0.6,
        "frobenius(abs(sign(input_noise)))": 0.5,  # as good as the first, and longer
        "invert(zeros(weight))": INVALID,
        "mean(exp(activation_noise))": 0.1,
        "numel(weight)": 0.4,
        "mean_abs(square(relu(input_noise)))": 0.2,
    }
    rows = benchmark.conclude(list(val), list(val.values()))
    assert {row["architecture"] for row in rows} == {
        "frobenius(sign(abs(sign(input_noise))))",
        "frobenius(sign(input_noise))",
        "numel(weight)",
    }
    for row in rows:
        expected = others.correlation(parse(row["architecture"]))
        assert row["held_out"] == row["each"]["nats_size"] == expected
        assert (row["val"], row["test"]) == (val[row["architecture"]], None)
    assert [row["held_out"] for row in rows] == sorted((r["held_out"] for r in rows), reverse=True)
    benchmark.held_out = 0
    assert benchmark.conclude(list(val), list(val.values())) == []


@pytest.mark.parametrize(
    ("accuracy", "steering"),
    [({}, "val"), ({"accuracy": "val"}, "val"), ({"accuracy": "test"}, "test")],
)
def test_tasks_count_by_the_accuracies_that_are_asked_for(monkeypatch, accuracy, steering):
    """Tasks of the test by their test accuracies alone; where a table has one kind, by that."""
    drawn = []

    def collected(space, archs, *_, **__):
        drawn.append(archs)
        return samples.Samples([], len(archs))

    monkeypatch.setattr(samples, "collect", collected)
    train, test = ["nasbench201:cifar100", "nats_size", "darts"], ["nasbench_macro"]
    one = ProgramBenchmark(ProxyPrograms(), train, test, networks=5, held_out=4, **accuracy)
    other = ProgramBenchmark(ProxyPrograms(), ["nats_size"], train[:1], networks=5, **accuracy)
    expected = dict(zip([*train, *test], [steering, "test", "val", "test"], strict=True))
    assert one.describe()["accuracies"] == expected
    assert other.describe()["accuracies"] == {train[0]: "test", "nats_size": "test"}
    for benchmark, name, held_out, kind in (
        *((one, name, True, expected[name]) for name in train),
        *((one, name, False, expected[name]) for name in expected),
        (other, train[0], False, "test"),
    ):
        table = benchmark._spaces[name].table()
        found = benchmark.task(name, held_out).accuracy
        np.testing.assert_array_equal(found, getattr(table, kind)[table.rows(drawn[-1])])


def test_steering_and_held_out_networks_are_apart_to_the_last(monkeypatch):
    monkeypatch.setattr(samples, "collect", lambda _, archs, *__, **___: archs)
    benchmark = ProgramBenchmark(ProxyPrograms(), ["darts"], [], networks=700, held_out=300)
    steering, others = (set(benchmark.task("darts", part).samples) for part in (False, True))
    assert (len(steering), len(others), len(steering | others)) == (700, 300, 1000)


def test_the_cost_of_a_program_is_its_length(tmp_path):
    programs = ProxyPrograms()
    benchmark = ProgramBenchmark(programs, ["nats_size"], [])
    arch = programs.parse("sum_over_units(frobenius(abs(weight)))")
    assert benchmark.cost("length")([arch]).tolist() == [4]
    with pytest.raises(UsageError, match="programs have no flops; choose cost=length"):
        benchmark.cost("flops")


@pytest.mark.parametrize(("combine", "expected"), [("min", 0.2), ("mean", 0.5), ("geometric", 0.4)])
def test_tasks_are_combined(combine, expected):
    benchmark = ProgramBenchmark(ProxyPrograms(), ["nats_size"], [], combine=combine)
    assert benchmark._combined([0.2, 0.8]) == pytest.approx(expected)
    assert benchmark._combined([0.2, INVALID]) == INVALID
    assert benchmark._combined([-0.2, -0.4, 0.9]) == pytest.approx(
        0.1 if combine == "mean" else -0.4
    )
