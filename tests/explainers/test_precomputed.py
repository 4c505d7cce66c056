"""Attributions from files as an explainer: worth what they were worth, checked before any work, and never invented."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import assay
from assay import registry
from assay.attribution_files import read_attributions, write_attributions
from assay.benchmark.cell import Cell
from assay.benchmark.store import Store
from assay.conversation import Case, Feature
from assay.errors import AssayError, Undefined
from assay.explainers.precomputed import Precomputed
from assay.stored_attributions import StoredAttribution
from assay.tasks import Task
from tests.benchmark.cli import assay as run_assay
from tests.benchmark.cli import save_model, save_task
from tests.conversations import run as converse
from tests.tiny_models import CORPUS, tiny_classifier

COSTS = ("forward_rows", "forward_tokens", "backward_rows", "backward_tokens", "seconds")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, a task of six examples and the results of one run."""
    folder = tmp_path_factory.mktemp("precomputed")
    save_model(folder / "model")
    save_task(folder / "data")
    ended = run_assay("run", *given(folder), "explainer=[leave_one_out,attention]", "metric=[comprehensiveness,cost]")
    assert ended.code == 0, ended.err
    ended = run_assay("export", "attributions", str(folder / "results"), "--out", str(folder / "exported"))
    assert ended.code == 0, ended.err
    return folder


def given(folder: Path) -> list[str]:
    return [
        f"task.path={folder / 'data'}",
        f"model.path={folder / 'model'}",
        f"results={folder / 'results'}",
        "tracker=none",
    ]


def exported(place: Path, name: str) -> Path:
    (found,) = (place / "exported").glob(f"sst2/model/*/{name}-*.jsonl")
    return found


def rerun(place: Path, path: Path, *more: str, name: str = "mine", metric: str = "[comprehensiveness,cost]") -> Any:
    own = [f"+explainer@explainers.{name}=precomputed", "explainer=leave_one_out", f"explainers.{name}.path={path}"]
    return run_assay("run", *given(place), *own, f"metric={metric}", *more)


def cells(place: Path, name: str) -> list[Cell]:
    return [cell for cell in Store(place / "results").cells() if cell.explainer == name]


def stored(scores: Any = (1.0, 2.0), **about: Any) -> StoredAttribution:
    return StoredAttribution(**{"id": "x", "features": ("a", "film"), "scores": scores, **about})


def asked(target: int = 0, id: str = "x", features: tuple[str, ...] = ("a", "film")) -> Case:
    return Case(id, tuple(Feature(text, 0, place) for place, text in enumerate(features)), target)


def check(explainer: Precomputed) -> None:
    explainer.prepare(tiny_classifier("bert"), [])
    explainer.check_cases([asked()])


def test_what_a_run_wrote_is_worth_the_same_when_it_is_read_again(place: Path) -> None:
    ended = rerun(place, exported(place, "leave_one_out"))
    assert ended.code == 0, ended.err
    (mine,), (original,) = cells(place, "mine"), cells(place, "leave_one_out")
    here, there = (
        {(row["example"], row["metric"]): row["value"] for row in cell.rows("scores") if row["metric"] not in COSTS}
        for cell in (mine, original)
    )
    assert here == pytest.approx(there, abs=1e-6)
    assert [row["scores"] for row in mine.rows("attributions")] == [
        row["scores"] for row in original.rows("attributions")
    ]


def test_its_cost_is_unknown_with_a_reason_and_no_table_shows_a_number(place: Path) -> None:
    ended = rerun(place, exported(place, "attention"), name="unsigned")
    assert ended.code == 0, ended.err
    (cell,) = cells(place, "unsigned")
    assert cell.meta["explainer"]["signed"] is False
    assert all(np.isnan(cell.meta["cost"][name]) for name in COSTS)
    costs = cell.scores[cell.scores["metric"].isin(COSTS)]
    assert costs["value"].isna().all()
    assert set(costs["reason"]) == {"the attribution was not made here, so its cost is unknown"}
    row = next(line for line in ended.out.split("Skill and cost")[1].splitlines() if line.startswith("unsigned"))
    assert row.split()[-2:] == ["—", "—"]
    assert "nan" not in ended.out
    board = place / "board"
    ended = run_assay("leaderboard", "build", str(place / "results"), "--out", str(board), "--tracker", "none")
    assert ended.code == 0, ended.err
    json.loads((board / "leaderboard.json").read_text("utf-8"), parse_constant=lambda name: pytest.fail(name))


def test_stored_ones_are_judged_again_with_their_cost_still_unknown(place: Path) -> None:
    ended = rerun(place, exported(place, "leave_one_out"), "task.size=4", name="again")
    assert ended.code == 0, ended.err
    ended = run_assay("score", str(place / "results"), "metric=[sufficiency,cost]")
    assert ended.code == 0, ended.err
    (again,) = (cell for cell in cells(place, "again") if "sufficiency" in cell.meta["measures"])
    of_cost = again.scores[again.scores["metric"] == "seconds"]
    assert set(of_cost["reason"]) == {"the attribution was not made here, so its cost is unknown"}
    assert again.scores.query("metric == 'sufficiency'")["value"].notna().all()


def test_an_edited_file_is_another_cell_and_the_same_content_in_another_format_is_not(place: Path) -> None:
    path = place / "edited.csv"
    attributions = read_attributions(exported(place, "leave_one_out"))
    write_attributions(path, attributions)
    fingerprints = {Precomputed(str(one)).fingerprint for one in (path, exported(place, "leave_one_out"))}
    assert len(fingerprints) == 1
    assert rerun(place, path, name="edited").code == 0
    ended = rerun(place, path, name="edited")
    assert "all 4 cells were finished before" in ended.out + ended.err
    first = attributions[0]
    assert first.scores is not None
    changed = first.model_copy(update={"scores": (first.scores[0] + 1e-9, *first.scores[1:])})
    write_attributions(path, [changed, *attributions[1:]])
    assert rerun(place, path, name="edited").code == 0
    assert len({cell.key for cell in cells(place, "edited")}) == 2


def test_metrics_that_ask_a_method_again_have_no_value(place: Path) -> None:
    ended = rerun(place, exported(place, "leave_one_out"), metric="model_randomisation", name="asked")
    assert ended.code == 0, ended.err
    (cell,) = cells(place, "asked")
    assert cell.scores["value"].isna().all()
    assert all("precomputed" in reason for reason in cell.scores["reason"])


def test_an_example_that_stands_there_with_a_reason_is_counted_as_undefined(place: Path) -> None:
    attributions = read_attributions(exported(place, "leave_one_out"))
    failed = StoredAttribution(
        id=attributions[2].id,
        scores=None,
        reason="it ran out of memory",
        target=attributions[2].target,
        method="leave_one_out",
    )
    write_attributions(place / "some.parquet", [*attributions[:2], failed, *attributions[3:]])
    ended = rerun(place, place / "some.parquet", name="some")
    assert ended.code == 0, ended.err
    (cell,) = cells(place, "some")
    assert cell.meta["counts"]["undefined"]["comprehensiveness"] == 1
    reasons = cell.scores.query("metric == 'comprehensiveness'")["reason"].dropna().tolist()
    assert reasons == ["no attribution: it ran out of memory"]
    ended = run_assay("export", "attributions", str(place / "results"), "--out", str(place / "twice"))
    assert ended.code == 0, ended.err
    assert "(some: 6 examples, 1 of them without an attribution)" in ended.out
    assert "oracle is left out: it searches for another ranking under each metric." in ended.out
    assert "random is left out: it draws several attributions of an example." in ended.out
    ended = run_assay("export", "attributions", str(place / "results"), "--out", str(place / "twice"))
    assert ended.code == 2
    assert "exists; name another folder" in ended.err


def test_what_does_not_fit_is_told_before_any_work(place: Path) -> None:
    attributions = read_attributions(exported(place, "leave_one_out"))
    write_attributions(place / "wrong.jsonl", attributions[2:])
    ended = rerun(place, place / "wrong.jsonl", name="wrong")
    assert ended.code == 2
    assert "no attribution of 2 of 6 examples: 'sst2/validation/0' is not there; 'sst2/validation/1' is" in ended.err
    assert "It has 4 examples, such as 'sst2/validation/2'" in ended.err
    assert "An example that the method cannot explain must stand in it with a reason." in ended.err
    assert "Traceback" not in ended.err
    assert "cells to compute" not in ended.out + ended.err
    assert not cells(place, "wrong")


@pytest.mark.parametrize(
    ("about", "message"),
    [
        (
            {"target": "LABEL_1"},
            r"class that is explained in 1 of 1 examples: 'x' is explained for 'LABEL_1', the run explains 'LABEL_0'",
        ),
        (
            {"target": "LABEL"},
            r"classes that the model does not have in 1 of 1 examples: 'x' is explained for 'LABEL'. "
            r"The model calls its classes LABEL_0, LABEL_1",
        ),
        (
            {"features": ("A", "film")},
            r"other features than the model reads in 1 of 1 examples: 'x': at segment 0, position 0 stands 'a', "
            r"the file has 'A'. Its features are words",
        ),
        ({"features": ("a",), "scores": (1.0,)}, r"at segment 0, position 1 stands 'film', the file has nothing there"),
        (
            {"features": ("a", "film", "x"), "segments": (0, 0, 1), "scores": (1.0, 2.0, 3.0)},
            r"the file has 'x' at segment 1, position 0, where the model reads nothing \(a word that is cut off",
        ),
        ({"features": ("a\x1b[31m", "\u202efilm")}, r"the file has 'a\\x1b\[31m'"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, about: dict[str, Any], message: str) -> None:
    write_attributions(tmp_path / "given.csv", [stored(**about)])
    explainer = Precomputed(str(tmp_path / "given.csv"))
    with pytest.raises(AssayError, match=message):
        check(explainer)


def test_many_that_are_missing_are_counted_and_a_few_named(tmp_path: Path) -> None:
    write_attributions(tmp_path / "given.csv", [stored()])
    cases = [asked(), *(asked(id=str(number)) for number in range(1, 99))]
    with pytest.raises(AssayError, match=r"of 98 of 99 examples: '1' is not there; '2' .*; '3' is .*; and 95 more"):
        Precomputed(str(tmp_path / "given.csv")).check_cases(cases)


def test_what_is_of_two_kinds_is_refused(tmp_path: Path) -> None:
    for other, message in (
        ({"signed": False}, "mixes signed with unsigned scores"),
        ({"unit": "token"}, "mixes words with tokens"),
        ({"method": "m"}, "holds attributions of 2 methods; name one as method=...: \\(unnamed\\), 'm'"),
    ):
        write_attributions(tmp_path / "given.csv", [stored(), stored(id="y", **other)])
        with pytest.raises(AssayError, match=message):
            Precomputed(str(tmp_path / "given.csv"))


def test_the_path_must_be_given_and_a_suite_leaves_it_out(place: Path) -> None:
    ended = run_assay("run", *given(place), "explainer=precomputed")
    assert ended.code == 2
    assert "explainers.precomputed.path must be given, as explainers.precomputed.path=VALUE" in ended.err
    with pytest.raises(AssayError, match=r"needs the setting path"):
        registry.build("explainer", "precomputed")
    assert "precomputed" not in run_assay("run", "explainer=all", "model.path=x", "--show-config").out
    assert "precomputed" in run_assay("list", "explainers").out


def test_of_several_classes_that_which_is_explained_counts(tmp_path: Path) -> None:
    path = tmp_path / "given.jsonl"
    several = [stored(target="LABEL_0"), stored((3.0, 4.0), target="LABEL_1"), stored(id="any")]
    several.append(stored(id="of another task", target="entailment"))
    write_attributions(path, several)
    explainer = Precomputed(str(path))
    explainer.prepare(tiny_classifier("bert"), [])
    explainer.check_cases([asked(0), asked(1), asked(1, "any")])
    for case, expected in ((asked(0), [1, 2]), (asked(1), [3, 4]), (asked(1, "any"), [1, 2])):
        assert converse(explainer.converse(case), None).result.tolist() == expected
    for case, message in (
        (asked(id="y"), "'y' is not there"),
        (asked(features=("a",)), "the file has 'film' at segment 0, position 1"),
    ):
        with pytest.raises(Undefined, match=message):
            converse(explainer.converse(case), None)


def test_a_method_among_several_is_chosen_by_name(tmp_path: Path) -> None:
    path = tmp_path / "given.csv"
    write_attributions(path, [stored(method="one"), stored((3.0, 4.0), method="two", signed=False)])
    two = Precomputed(str(path), method="two")
    assert not two.signed
    assert converse(two.converse(asked()), None).result.tolist() == [3, 4]
    with pytest.raises(AssayError, match=r"no attributions of the method 'tow'. Did you mean 'two'"):
        Precomputed(str(path), method="tow")
    write_attributions(path, [stored(scores=None, features=(), reason="x")])
    with pytest.raises(AssayError, match=r"has a reason in place of every attribution"):
        Precomputed(str(path))


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_scores_of_tokens_serve_a_run_over_words_as_their_sum_and_one_over_tokens_as_they_are(
    tmp_path: Path, architecture: str
) -> None:
    model = tiny_classifier(architecture)
    task = Task(
        "t", model.labels, "validation", tuple(assay.Example(f"t/{i}", (text,)) for i, text in enumerate(CORPUS[:3]))
    )
    rng = np.random.default_rng(0)
    of_tokens, of_words = [], []
    for example in task:
        tokens, words = model.encode(example, "token"), model.encode(example)
        scores = rng.normal(size=tokens.n)
        about = {"id": example.id, "unit": "token", "scores": tuple(scores.tolist())}
        of_tokens.append(
            StoredAttribution(
                **about,
                features=tuple(feature.text for feature in tokens.features),
                positions=tuple(feature.position for feature in tokens.features),
            )
        )
        spread = np.zeros(len(tokens.row.ids))
        spread[tokens.feature_of_token >= 0] = scores
        of_words.append(words.feature_scores(spread, "sum"))
    write_attributions(tmp_path / "given.parquet", of_tokens)
    explainer = Precomputed(str(tmp_path / "given.parquet"))
    frame = assay.evaluate(model, explainer, task, metrics=["comprehensiveness"])
    by_hand = assay.score(model, [example.text for example in task], of_words, metrics=["comprehensiveness"])
    mine = frame[frame["explainer"] == "Precomputed"]["comprehensiveness"]
    assert mine.tolist() == pytest.approx(by_hand["comprehensiveness"].tolist(), abs=1e-6)
    over_tokens = assay.evaluate(model, explainer, task, metrics=["comprehensiveness"], feature="token")
    assert over_tokens[over_tokens["explainer"] == "Precomputed"]["comprehensiveness"].notna().all()


def test_scores_of_words_do_not_serve_a_run_over_tokens(place: Path) -> None:
    ended = rerun(place, exported(place, "leave_one_out"), "feature=token", name="words")
    assert ended.code == 2
    assert "'sst2/validation/0': at segment 0, position 10 stands 'un', the file has 'unbelievable'" in ended.err
    assert "Its features are words; they must be those of the run" in ended.err


def test_the_page_s_way_from_another_tool_to_the_tables(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("captum")
    page = (Path(__file__).parents[2] / "docs" / "precomputed.md").read_text("utf-8")
    script = page.split("```python\n")[1].split("```")[0]
    command = page.split("```\nassay run ")[1].split("\nassay")[0].replace("\\\n", " ")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASSAY_DATA", str(place / "data"))
    exec(compile(script.replace("path/of/your/model", str(place / "model")), "page", "exec"), {})
    command = command.replace("path/of/your/model", str(place / "model")).replace(",lime]", "]")
    ended = run_assay("run", *command.split(), "tracker=none", "metric=comprehensiveness")
    assert ended.code == 0, ended.err
    assert "captum_ig" in ended.out
    assert len(read_attributions("captum_ig.jsonl")) == len(CORPUS[:6])
    rows = page.split("```json\n")[1].split("```")[0]
    (tmp_path / "page.jsonl").write_text(rows, "utf-8")
    lines = next(block for block in page.split("```\n") if block.startswith("id,feature"))
    (tmp_path / "page.csv").write_text(lines, "utf-8")
    from_lines, from_rows = read_attributions("page.jsonl"), read_attributions("page.csv")
    assert from_lines[0] == from_rows[0]
    assert from_lines[1].reason == "it ran out of memory"
