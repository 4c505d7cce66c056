"""What figures draw is what tables say; names are only read, and nothing of the user's is changed."""

from __future__ import annotations

import io
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import assay
from assay import Attribution, Feature, figures
from assay.benchmark.cell import Cell
from assay.benchmark.intervals import mean_interval
from assay.benchmark.mean_curves import mean_curves
from assay.benchmark.store import Store
from assay.benchmark.summary import contests, overall, summarise
from assay.errors import AssayError
from assay.figures.costs import front
from assay.figures.ranks import cliques
from tests.benchmark.cli import save_model, save_task
from tests.leaderboard.synthetic import METHODS, UNSIGNED, protocol, write_cell, write_results

CONTROLS = {"random", "oracle"}
# What would be a formula, markup, a hidden label, or a line that turns around.
NAMES = ("$x^2$", "\\frac{a}{b} $", "_hidden", "\u202eevil", "\x1b[2Jred")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("results")
    about = protocol(examples=30)
    for name, quality in METHODS.items():
        write_cell(root, name, about, quality, signed=name not in UNSIGNED)
    return root


@pytest.fixture(scope="module")
def cells(results: Path) -> list[Cell]:
    return Store(results).cells()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> list[Cell]:
    root = tmp_path_factory.mktemp("hostile")
    about = protocol("$t_0$", examples=12)
    names = (*NAMES, "random", "oracle")
    return [write_cell(root, name, about, METHODS.get(name, 0.2 + place / 8)) for place, name in enumerate(names)]


def attribution(words: list[str], scores: list[float], signed: bool = True) -> Attribution:
    features = tuple(Feature(word, place // 4, place % 4) for place, word in enumerate(words))
    return Attribution(features, np.array(scores), 0, signed)


def ticks(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def test_skill_is_drawn_with_its_intervals_the_best_first(results: Path, cells: list[Cell]) -> None:
    figure = figures.skill(results)
    frame = overall(cells)
    frame = frame[~frame["explainer"].isin(CONTROLS)].sort_values("skill", ascending=False)
    assert ticks(figure) == frame["explainer"].tolist()
    whiskers, dots = figure.axes[0].collections
    assert np.asarray(dots.get_offsets()) == pytest.approx(np.c_[frame["skill"], np.arange(len(frame))])
    drawn = np.array(whiskers.get_segments())
    assert drawn[:, :, 0] == pytest.approx(frame[["skill_low", "skill_high"]].to_numpy())
    assert texts(figure) == frame["group"].tolist()
    assert figure.axes[0].get_xlabel() == "mean skill ↑  (0 = random, 1 = oracle)"


def test_the_skill_of_one_measure(cells: list[Cell]) -> None:
    figure = figures.skill(cells, metric="deletion")
    frame = summarise(cells)
    frame = frame[(frame["metric"] == "deletion") & ~frame["explainer"].isin(CONTROLS)]
    dots = figure.axes[0].collections[1]
    assert sorted(np.asarray(dots.get_offsets())[:, 0]) == pytest.approx(sorted(frame["skill"]))
    with pytest.raises(AssayError, match="Did you mean 'deletion'"):
        figures.skill(cells, metric="deletoin")
    with pytest.raises(AssayError, match="no skill to draw for tau_loo"):
        figures.skill(cells, metric="tau_loo")
    with pytest.raises(AssayError, match="no skill to draw for any measure"):
        figures.skill([cell for cell in cells if cell.explainer != "oracle"])


def test_curves_are_the_means_with_their_bands(cells: list[Cell]) -> None:
    figure = figures.curves(cells, "insertion", explainers=["lime", "random"])
    axes = figure.axes[0]
    assert [line.get_label() for line in axes.lines] == ["lime", "random"]
    for line, band in zip(axes.lines, axes.collections, strict=True):
        (cell,) = [cell for cell in cells if cell.explainer == line.get_label()]
        found = mean_curves(cell)
        found = found[found["metric"] == "insertion"]
        assert np.asarray(line.get_xdata()) == pytest.approx(100 * found["x"].to_numpy())
        assert np.asarray(line.get_ydata()) == pytest.approx(found["mean"].to_numpy())
        corners = np.asarray(band.get_paths()[0].vertices)
        assert set(np.round(found["low"], 9)) | set(np.round(found["high"], 9)) <= set(np.round(corners[:, 1], 9))
    assert axes.get_xlabel() == "words shown, most important first (%)"
    assert axes.get_ylabel().replace("\n", " ") == "mean probability of the explained class"
    assert axes.get_title("left") == "insertion ↑"


def test_curves_are_of_the_best_and_the_controls_unless_named(cells: list[Cell]) -> None:
    labels = [line.get_label() for line in figures.curves(cells).axes[0].lines]
    frame = overall(cells).sort_values("rank")
    best = frame[~frame["explainer"].isin(CONTROLS)]["explainer"].tolist()[:4]
    assert labels == [*best, "random", "oracle"]
    styles = {(line.get_color(), str(line.get_linestyle())) for line in figures.curves(cells).axes[0].lines}
    assert len(styles) == 6
    with pytest.raises(AssayError, match="Did you mean 'lime'"):
        figures.curves(cells, explainers=["lme"])
    with pytest.raises(AssayError, match="Known: deletion, insertion"):
        figures.curves(cells, "tau_loo")


def test_critical_differences_are_those_of_friedman_and_nemenyi(cells: list[Cell]) -> None:
    (contest,) = contests(cells)
    test = contest.friedman()
    figure = figures.critical_difference(contest)
    shown = dict(
        reversed(text.split("  ")) if text[0].isdigit() else text.split("  ") for text in texts(figure) if "  " in text
    )
    for name, rank in zip(contest.names, test.mean_ranks, strict=True):
        assert shown[name] == f"{rank:.2f}"
    assert f"critical difference {test.critical_difference:.2f}" in texts(figure)
    order = np.argsort(test.mean_ranks)
    ranks = test.mean_ranks[order]
    thick = [line for line in figure.axes[0].lines if line.get_linewidth() == 3]
    joined = np.zeros((len(ranks), len(ranks)), dtype=bool)
    for line in thick:
        low, high = np.asarray(line.get_xdata(), dtype=float)
        inside = np.flatnonzero((ranks >= low) & (ranks <= high))
        joined[np.ix_(inside, inside)] = True
    np.fill_diagonal(joined, True)
    assert (joined == (test.nemenyi[np.ix_(order, order)] > 0.05)).all()
    assert thick
    assert texts(figures.critical_difference(cells)) == texts(figure)


def test_cliques_are_the_longest_runs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        ranks = np.sort(rng.uniform(1, 8, 7))
        runs = {(i, j) for i in range(7) for j in range(i + 1, 7) if ranks[j] - ranks[i] <= 2}
        longest = {one for one in runs if not any(o != one and o[0] <= one[0] and one[1] <= o[1] for o in runs)}
        assert set(cliques(ranks.tolist(), 2.0)) == longest


def test_too_little_for_a_critical_difference_is_said(cells: list[Cell]) -> None:
    two = [cell for cell in cells if cell.explainer in ("lime", "gradient", *CONTROLS)]
    with pytest.raises(AssayError, match="three methods or more, not 2"):
        figures.critical_difference(two)
    with pytest.raises(AssayError, match="nothing to rank"):
        figures.critical_difference([cell for cell in cells if cell.explainer in CONTROLS])


@pytest.mark.parametrize("cost", ["rows", "seconds"])
def test_the_front_and_the_points_of_faithfulness_against_cost(cells: list[Cell], cost: Any) -> None:
    figure = figures.pareto(cells, cost)
    frame = overall(cells).set_index("explainer")
    points = {}
    for cell in cells:
        spent = cell.meta["cost"]
        price = spent["forward_rows"] + spent["backward_rows"] if cost == "rows" else spent["seconds"]
        if cell.explainer not in CONTROLS:
            points[cell.explainer] = (price, frame.loc[cell.explainer, "skill"])
    beaten, best = [
        [(float(x), float(y)) for x, y in zip(*container.lines[0].get_data(), strict=True)]  # type: ignore[union-attr]
        for container in figure.axes[0].containers
    ]
    assert np.array(sorted(beaten + best)) == pytest.approx(np.array(sorted(points.values())))
    for price, skill in points.values():
        others = [one for one in points.values() if one != (price, skill)]
        dominated = any(p <= price and s >= skill for p, s in others)
        assert ((price, pytest.approx(skill)) in best) == (not dominated)
    assert {note.get_text() for note in figure.axes[0].texts} == set(points)


def test_the_front_is_what_brute_force_finds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        prices, skills = rng.integers(0, 6, 12).astype(float), rng.integers(0, 6, 12).astype(float)
        for place, chosen in enumerate(front(prices, skills)):
            beaten = any(
                p <= prices[place] and s >= skills[place] and (p, s) != (prices[place], skills[place])
                for p, s in zip(prices, skills, strict=True)
            )
            assert chosen == (not beaten)


def test_a_method_whose_cost_is_unknown_is_named_and_not_drawn_at_zero(cells: list[Cell]) -> None:
    changed = [
        Cell(cell.path, {**cell.meta, "cost": dict.fromkeys(cell.meta["cost"], float("nan"))})
        if cell.explainer == "lime"
        else cell
        for cell in cells
    ]
    axes = figures.pareto(changed).axes[0]
    assert axes.get_xlabel().endswith("not drawn, cost unknown: lime")
    assert "lime" not in {note.get_text() for note in axes.texts}
    with pytest.raises(AssayError, match="Did you mean 'rows'"):
        figures.pareto(cells, "row")  # type: ignore[arg-type]


def test_results_of_evaluate_are_drawn_with_bootstrap_intervals() -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "explainer": np.repeat(["random", "lime", "oracle"], 20),
            "id": [str(place) for place in range(60)],
            "deletion": rng.uniform(size=60),
            "tau_loo": np.r_[np.full(20, np.nan), rng.uniform(size=40)],
            "empty": np.full(60, np.nan),
        }
    )
    frame.attrs["directions"] = {"deletion": "lower", "tau_loo": "higher"}
    figure = figures.scores(frame)
    assert [axes.get_xlabel() for axes in figure.axes] == ["deletion ↓", "tau loo ↑"]
    assert ticks(figure) == ["lime", "random", "oracle"]
    for axes, measure in zip(figure.axes, ("deletion", "tau_loo"), strict=True):
        for place, name in enumerate(ticks(figure)):
            expected = mean_interval(frame.loc[frame["explainer"] == name, measure].to_numpy())
            dot = np.asarray(axes.collections[1].get_offsets())[place]
            assert dot[0] == pytest.approx(expected.mean, nan_ok=True)
            whisker = axes.collections[0].get_segments()[place]
            if np.isfinite(expected.mean):
                assert whisker[:, 0] == pytest.approx([expected.low, expected.high])
            else:
                assert not np.isfinite(whisker).any()
    with pytest.raises(AssayError, match=r"no results of assay\.evaluate"):
        figures.scores(frame.drop(columns="explainer"))
    with pytest.raises(AssayError, match="all of them are undefined"):
        figures.scores(frame[["explainer", "id", "empty"]])


def test_highlighted_words_stand_in_order_within_the_figure() -> None:
    words = [f"word{place}" for place in range(40)]
    figure = figures.highlight(attribution(words, [1.0, -0.5] * 20), width=3)
    axes = figure.axes[0]
    assert texts(figure) == words
    places = [(-text.get_position()[1], text.get_position()[0]) for text in axes.texts]
    assert places == sorted(places, key=lambda place: (-place[0], place[1]))
    figure.canvas.draw()
    for text in axes.texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    shades = {tuple(np.round(patch.get_facecolor()[:3], 2)) for patch in axes.patches}
    assert len(shades) == 2
    assert len(axes.lines) == 20  # what speaks against is dotted too


def test_long_texts_and_words_are_cut() -> None:
    shown = texts(figures.highlight(attribution(["x" * 10_000_000, *["a"] * 400], [1.0] * 401)))
    assert len(shown) == 301
    assert (len(shown[0]), shown[-1]) == (60, "… 101 more words")


def test_several_attributions_stand_below_their_names() -> None:
    figure = figures.highlight(
        {"lime": attribution(["a", "b"], [1, 0]), "attention": attribution(["a", "b"], [0, 1], signed=False)}
    )
    assert texts(figure) == ["lime", "a", "b", "attention", "a", "b"]
    with pytest.raises(AssayError, match="no attribution"):
        figures.highlight({})


def draw_all(cells: list[Cell]) -> list[Figure]:
    return [
        figures.skill(cells),
        figures.curves(cells),
        figures.critical_difference(cells),
        figures.pareto(cells),
        figures.highlight({"$a$": attribution([*NAMES, "$"], [1, -1, 0, 0.5, 0.1, np.nan])}),
    ]


@pytest.mark.parametrize("style", [{}, {"text.usetex": True}])
def test_hostile_names_are_only_read(hostile: list[Cell], style: dict[str, Any]) -> None:
    """With TeX switched on they would be run, and here not even be found."""
    with mpl.rc_context(style):
        for figure in draw_all(hostile):
            for text in figure.findobj(mpl.text.Text):
                if text.get_text():
                    assert not text.get_usetex()
                    assert not mpl.cbook.is_math_text(text.get_text())
                    assert not set(text.get_text()) & set("\u202e\x1b")
        content = io.BytesIO()
        mpl.rcParams["text.usetex"] = False
        figures.skill(hostile).savefig(content, format="svg")
    legend = figures.curves(hostile).axes[0].get_legend()
    assert legend is not None
    assert len(legend.get_texts()) == 6  # a name that begins with an underscore is there too


BEGINNINGS = {"pdf": b"%PDF", "svg": b"<?xml", "png": b"\x89PNG"}


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_figures_are_saved_without_a_warning(cells: list[Cell], kind: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in (figures.critical_difference(cells), figures.highlight(attribution(["a", "film"], [1, -1]))):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind)
            assert buffer.getvalue().startswith(BEGINNINGS[kind])


def test_a_notebook_is_given_a_picture(cells: list[Cell]) -> None:
    png = figures.skill(cells)._repr_png_()  # type: ignore[attr-defined]
    assert png.startswith(b"\x89PNG")


def test_the_users_matplotlib_is_left_alone(results: Path) -> None:
    code = f"""
import sys, matplotlib
from assay import figures
matplotlib.rcParams["font.size"] = 13
before = matplotlib.rcParams.copy()
figures.skill({str(results)!r}).savefig({str(results.parent / "x.pdf")!r})
assert dict.__eq__(matplotlib.rcParams.copy(), before), "rcParams"
assert "matplotlib.pyplot" not in sys.modules, "pyplot"
"""
    ended = subprocess.run([sys.executable, "-W", "error", "-c", code], check=False, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "function", [figures.skill, figures.curves, figures.critical_difference, figures.pareto], ids=lambda f: f.__name__
)
def test_protocols_are_never_mixed(function: Callable[..., Figure], tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "mixed"
    if not root.exists():
        write_results(root, examples=8)
    with pytest.raises(AssayError, match="3 protocols, which cannot be compared"):
        function(root)
    with pytest.raises(AssayError, match="2 protocols"):
        function(root, task="sst2")
    with pytest.raises(AssayError, match="Did you mean 'mnli'"):
        function(root, task="mnl")
    with pytest.raises(AssayError, match="Known: mask"):
        function(root, task="mnli", perturbation="x")
    assert function(root, task="mnli").axes


def test_no_results_are_said(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="no results folder"):
        figures.skill(tmp_path / "none")
    with pytest.raises(AssayError, match="no finished cells"):
        figures.skill(tmp_path)
    with pytest.raises(AssayError, match="no cells to draw"):
        figures.skill([])


def test_evaluate_says_which_values_are_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DATA", str(save_task(tmp_path)))
    model = assay.Classifier.from_pretrained(str(save_model(tmp_path / "model")), device="cpu")
    frame = assay.evaluate(model, "gradient", "sst2", ["deletion", "comprehensiveness"])
    assert frame.attrs["directions"] == {"deletion": "lower", "comprehensiveness": "higher"}
    figure = figures.scores(frame)
    assert [axes.get_xlabel() for axes in figure.axes] == ["deletion ↓", "comprehensiveness ↑"]
    dots = np.asarray(figure.axes[0].collections[1].get_offsets())
    means = frame.groupby("explainer")["deletion"].mean()
    assert dots[:, 0] == pytest.approx([means[name] for name in ("gradient", "random", "oracle")])
