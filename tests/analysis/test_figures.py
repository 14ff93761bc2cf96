import warnings

import numpy as np
import pytest

from analysis.efficiency import Interval
from analysis.figures import (
    DASHES,
    PALETTE,
    Dot,
    Line,
    curves_figure,
    rank_scatter,
    save_figure,
    targets_figure,
)


def lines(searchers, guidances, proxies=("synflow",), steps=40):
    rng = np.random.default_rng(0)
    return [
        Line(f"{s} + {g}, {p}", s, g, p, np.maximum.accumulate(rng.normal(70, 1, (5, steps)), 1))
        for s in searchers
        for g in guidances
        for p in proxies
    ]


def drawn(figure):
    return [line for ax in figure.axes for line in ax.get_lines()]


def test_colour_is_the_searcher_and_style_the_guidance():
    given = lines(("evolution", "random"), ("none", "warmup"))
    found = drawn(curves_figure(given, ylabel="accuracy"))
    assert [line.get_color() for line in found] == [PALETTE[0]] * 2 + [PALETTE[1]] * 2
    assert len({str(line._unscaled_dash_pattern) for line in found[:2]}) == 2
    assert DASHES["none"] != DASHES["warmup"]
    for line, spec in zip(found, given, strict=True):
        np.testing.assert_allclose(line.get_ydata(), spec.curve.mean(axis=0))
        np.testing.assert_array_equal(line.get_xdata(), np.arange(1, 41))


def test_many_lines_are_split_by_searcher():
    figure = curves_figure(lines(("a", "b", "c"), ("none", "warmup", "move")), ylabel="accuracy")
    titles = [ax.get_title("left") for ax in figure.axes]
    assert titles == ["a", "b", "c", ""]
    assert [len(ax.get_lines()) for ax in figure.axes] == [3, 3, 3, 0]


def test_one_searcher_has_a_colour_a_line_and_proxies_a_marker():
    found = drawn(curves_figure(lines(("a",), ("warmup",), ("synflow", "snip")), ylabel="y"))
    assert len({line.get_color() for line in found}) == 2
    assert len({line.get_marker() for line in found}) == 2


def ablation(searchers, sizes):
    rng = np.random.default_rng(0)
    return [
        Line(f"{s} (population {n})", s, "none", "-", rng.normal(70, 1, (5, 40)))
        for s in searchers
        for n in sizes
    ]


@pytest.mark.parametrize(("searchers", "sizes"), [("ab", (8, 16)), ("ab", (8, 16, 32, 64))])
def test_settings_have_a_colour_each_where_nothing_else_differs(searchers, sizes):
    found = drawn(curves_figure(ablation(searchers, sizes), ylabel="accuracy"))
    colours = [line.get_color() for line in found]
    assert colours[: len(sizes)] == colours[len(sizes) :]
    assert len(set(colours)) == len(sizes)


def test_more_settings_than_colours_have_markers_and_room():
    found = curves_figure(ablation("a", range(12)), ylabel="accuracy")
    looks = {(line.get_color(), line.get_marker()) for line in drawn(found)}
    assert len(looks) == 12
    found.draw_without_rendering()
    assert found.axes[0].get_window_extent().height > found.bbox.height / 3


def test_long_labels_leave_room_for_the_curves():
    label = "evolution (" + ", ".join(f"setting{n} {n}" for n in range(20)) + ")"
    line = Line(label, "evolution", "none", "-", np.linspace(70, 73, 40)[None].repeat(3, 0))
    dot = Dot(label, "evolution", "none", Interval(3.0, 2.0, 4.0), 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        curves = curves_figure([line], ylabel="accuracy")
        targets = targets_figure([dot], target="73", budget=10)
        for figure in (curves, targets):
            figure.draw_without_rendering()
            assert figure.axes[0].get_window_extent().width > figure.bbox.width / 3


@pytest.mark.parametrize("higher", [True, False])
def test_the_value_axis_shows_where_searches_end(higher):
    curve = np.concatenate([np.full(3, 10.0), np.linspace(70, 73, 97)])[None].repeat(4, 0)
    curve = curve if higher else 100 - curve
    figure = curves_figure(
        [Line("a", "a", "none", "-", curve)], ylabel="y", higher_is_better=higher
    )
    low, high = figure.axes[0].get_ylim()
    assert low < curve[0, -1] < high
    assert high - low < 5


def test_a_single_step_and_constant_or_missing_values_can_be_drawn(tmp_path):
    curves = [np.full((3, 1), 73.0), np.full((3, 50), 73.0), np.array([[np.nan, 1.0]])]
    for number, curve in enumerate(curves):
        figure = curves_figure([Line("a", "a", "none", "-", curve)], ylabel="y")
        assert all(path.stat().st_size for path in save_figure(figure, tmp_path / str(number)))
    assert (
        drawn(curves_figure([Line("a", "a", "none", "-", curves[0])], ylabel="y"))[0].get_marker()
        == "o"
    )


def test_targets_have_the_fewest_models_on_top():
    dots = [
        Dot("slow", "a", "none", Interval(200, 180, 220), 0.5),
        Dot("fast", "b", "warmup", Interval(30, 20, 40), 1.0),
    ]
    ax = targets_figure(dots, target="73.0 %", budget=300).axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["slow", "fast"]
    texts = [text.get_text() for text in ax.texts]
    assert "200  (50%)" in texts
    assert "30" in texts


@pytest.mark.parametrize("n", [60, 5000])
def test_rank_scatter_names_the_proxy_and_its_spearman(n):
    accuracy = np.random.default_rng(0).normal(90, 2, n)
    scores = accuracy.copy()
    scores[0] = np.nan
    ax = rank_scatter(scores, accuracy, "synflow").axes[0]
    assert ax.get_title("left") == f"synflow: Spearman 1.000, n = {n - 1:,}"


def test_files_are_png_and_svg_of_enough_resolution_and_reproducible(tmp_path):
    figure = curves_figure(lines(("a",), ("none",)), ylabel="y")
    png, svg = save_figure(figure, tmp_path / "fig.with.dots")
    assert (png.name, svg.name) == ("fig.with.dots.png", "fig.with.dots.svg")
    head = png.read_bytes()
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(head[16:20]) >= 150 * figure.get_figwidth()
    first = svg.read_bytes()
    save_figure(curves_figure(lines(("a",), ("none",)), ylabel="y"), tmp_path / "fig.with.dots")
    assert svg.read_bytes() == first


def test_nothing_global_changes():
    import matplotlib

    def settings():
        return {k: v for k, v in matplotlib.rcParams.items() if k != "backend"}

    before = settings()
    curves_figure(lines(("a",), ("none",)), ylabel="y")
    assert settings() == before
