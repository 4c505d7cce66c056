"""`assay leaderboard check`: an honest submission holds, and a forged one is refused whoever mended its checksums."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay.classifier import Classifier
from assay.leaderboard.checking import check_submission, read_submission
from assay.leaderboard.recomputing import Here, recompute
from tests.benchmark.cli import save_model, save_task
from tests.leaderboard.submitting import (
    Rows,
    cell_of,
    check,
    copied,
    forge,
    forge_json,
    forge_protocol,
    make_place,
    run,
    submit,
)
from tests.tiny_models import CORPUS


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_place(tmp_path_factory.mktemp("checking"))


@pytest.fixture
def forged(place: Path, tmp_path: Path) -> Path:
    return copied(place, tmp_path)


def refused(place: Path, folder: Path, *more: str) -> str:
    """What the check of everything says against a submission."""
    ended = check(place, folder, "--all", *more)
    assert ended.code == 1, ended.out + ended.err
    assert "Traceback" not in ended.err
    assert ended.out.splitlines()[-1].startswith("It does not hold")
    return ended.err


def test_an_honest_submission_holds(place: Path) -> None:
    ended = check(place, place / "submission", "--all")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.splitlines()[-1] == "It holds."
    assert "asked about 6 of 6 examples again" in ended.out
    assert "On trust: seconds and rows" in ended.out


def test_the_share_is_drawn_afresh_and_its_seed_is_shown(place: Path) -> None:
    here = Here(str(place / "data"), str(place / "models"), "cpu")
    notes = [check_submission(place / "submission", here, 0.2).notes[2] for _ in range(2)]
    assert notes[0] != notes[1]
    assert all("asked about 2 of 6 examples again" in note for note in notes)
    again = [check_submission(place / "submission", here, 0.2, seed=7).notes for _ in range(2)]
    assert again[0] == again[1]


def test_without_the_model_it_is_held_against_itself(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Classifier, "from_pretrained", None)
    ended = check(place, place / "submission", "--no-model")
    assert ended.code == 0, ended.err
    assert "asked about" not in ended.out


def shift_scores(rows: Rows) -> None:
    for row in rows:
        if row["metric"] == "comprehensiveness" and row["reason"] is None:
            row["value"] += 0.05


def other_attributions(rows: Rows) -> None:
    for row in rows:
        row["scores"] = None if row["scores"] is None else row["scores"][::-1]


def other_features(rows: Rows) -> None:
    rows[0]["features"][0] = "forged"


def answers_in_favour(rows: Rows) -> None:
    for row in rows:
        row["logits"] = [row["logits"][0] + 0.5, *row["logits"][1:]]


def drop_undefined(rows: Rows) -> Rows:
    kept = [row for row in rows if row["reason"] is None]
    assert len(kept) < len(rows)
    return kept


def drop_draws(rows: Rows) -> None:
    for row in rows:
        row["draws"] = None


FORGERIES: dict[str, tuple[str, Callable[[Rows], Rows | None], str, str]] = {
    "numbers": ("scores", shift_scores, "rise", r"comprehensiveness under mask: reported [\d.-]+, found [\d.-]+"),
    "one number by a ten-thousandth": (
        "scores",
        lambda rows: rows[0].update(value=rows[0]["value"] + 1e-4),
        "rise",
        r"comprehensiveness under mask: reported",
    ),
    "attributions": ("attributions", other_attributions, "rise", r"under mask: reported .* \(by the model\)"),
    "features": ("examples", other_features, "rise", "the text has 'the' where 'forged' is reported"),
    "answers": ("answers", answers_in_favour, "rise", r"reported [\d.-]+, found"),
    "undefined rows dropped": ("scores", drop_undefined, "rise", "counts.undefined is reported as"),
    "draws dropped": ("scores", drop_draws, "random", "the draws are not those"),
    "an example dropped": ("examples", lambda rows: rows[1:], "rise", "holds 5 examples; its protocol has 6"),
    "an example twice": ("examples", lambda rows: [*rows, rows[0]], "rise", "an example is there twice"),
    "an example without attribution": ("attributions", lambda rows: rows[1:], "rise", "is not in both tables"),
    "a score twice": ("scores", lambda rows: [*rows, rows[0]], "rise", "a score is there twice"),
    "another label": (
        "examples",
        lambda rows: rows[0].update(label=1 - rows[0]["label"]),
        "rise",
        "accuracy is reported",
    ),
    "curves": ("curves", lambda rows: rows[0]["y"].__setitem__(1, 0.123), "rise", "the curve is not the one"),
    "an answer of nothing": (
        "answers",
        lambda rows: rows[0].update(example="nobody"),
        "rise",
        "belongs to nothing in this cell",
    ),
    "answers too short": ("answers", lambda rows: rows[0].update(keep=b""), "rise", "is not about its"),
    "no value and no reason": (
        "scores",
        lambda rows: rows[0].update(value=math.nan),
        "rise",
        "it needs a value, or a reason",
    ),
    "a reason of one's own": (
        "scores",
        lambda rows: next(row for row in rows if row["reason"]).update(reason="too hard"),
        "rise",
        "the reason why it is undefined is another one",
    ),
    "a random ranking that was chosen": ("attributions", other_attributions, "random", "random-"),
    "cheaper": ("examples", lambda rows: rows[0].update(forward_rows=0.0), "rise", "forward_rows"),
    "a cost below nothing": ("examples", lambda rows: rows[0].update(seconds=-1.0), "rise", "below 0 or endless"),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_forged_tables_are_refused(place: Path, forged: Path, what: str) -> None:
    table, change, explainer, message = FORGERIES[what]
    forge(forged, table, change, explainer)
    assert re.search(message, refused(place, forged))


def test_consistent_answers_that_the_model_never_gave_are_found_by_asking_it(place: Path, forged: Path) -> None:
    """A forger who recomputes every score from answers of his own is caught by the model alone."""
    from assay.benchmark import scoring
    from assay.benchmark.records import Records
    from assay.benchmark.stored_answers import StoredAnswers
    from assay.leaderboard.following import drawn_of, follow
    from assay.leaderboard.submitted_cell import SubmittedCell

    def favour(rows: Rows) -> None:
        for row in rows:
            hidden = row["n"] - sum(bin(byte).count("1") for byte in row["keep"])
            row["logits"] = [float(np.float32(one * (1 + 0.2 * hidden))) for one in row["logits"]]

    forge(forged, "answers", favour)
    path = cell_of(forged)
    cell = SubmittedCell.read(forged, path.relative_to(forged).as_posix())
    answers = {(row["perturbation"], row["example"], row["keep"]): row["logits"] for row in cell.rows("answers")}
    stored = StoredAnswers(answers, cell.settings, cell.protocol["model"]["labels"])
    drawn, found = drawn_of(cell), Records()
    for example in cell.rows("examples"):
        for name in ("comprehensiveness", "deletion"):
            judge: Any = cell.metrics[name]
            rows = drawn[example["example"]]
            scores = {row["draw"]: stored.judged(judge, name, "mask", example, row, len(rows)) for row in rows}
            scoring.add_scores(found, {"example": example["example"], "perturbation": "mask"}, judge, scores)
    new = {(row["example"], row["metric"]): row for row in [*found.scores]}
    curves = {(row["example"], row["metric"]): row for row in [*found.curves]}

    def rewrite(rows: Rows) -> None:
        for row in rows:
            row |= {"value": new.get((row["example"], row["metric"]), row)["value"]}

    def redraw(rows: Rows) -> None:
        for row in rows:
            row |= {"y": curves[row["example"], row["metric"]]["y"]}

    forge(forged, "scores", rewrite)
    forge(forged, "curves", redraw)
    cell = SubmittedCell.read(forged, path.relative_to(forged).as_posix())
    assert follow(cell).faults == []
    assert check(place, forged, "--no-model").code == 0
    assert "stored answers are not the model's; the first is reported as" in refused(place, forged)


def test_another_model_is_refused(place: Path, forged: Path, tmp_path: Path) -> None:
    save_model(tmp_path / "other", seed=1)
    error = refused(place, forged, f"model.path={tmp_path / 'other'}")
    assert "model.fingerprint is reported as" in error


def test_another_task_and_another_subset_are_refused(place: Path, forged: Path, tmp_path: Path) -> None:
    save_task(tmp_path / "data", (*CORPUS[:4], "", "good films"))
    assert "task.fingerprint is reported as" in refused(place, forged, f"task.path={tmp_path / 'data'}")
    forge_protocol(forged, lambda protocol: protocol["task"].update(seed=1))
    assert "task.seed is reported as 1; this task and model have 0" in refused(place, forged)


def test_a_subset_that_was_chosen_is_refused(place: Path, tmp_path: Path) -> None:
    assert run(place, tmp_path / "results", "task.size=4").code == 0
    assert submit(tmp_path / "results", tmp_path / "submission").code == 0

    def whole(content: Any) -> None:
        content["task"]["seed"] = 3

    for explainer in ("rise", "random", "oracle"):
        forge_json(tmp_path / "submission", "config.json", whole, explainer)
    forge_protocol(tmp_path / "submission", lambda protocol: protocol["task"].update(seed=3))
    assert "task.fingerprint is reported as" in refused(place, tmp_path / "submission")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one["metrics"]["comprehensiveness"].update(fractions=[0.9]), "measures are not those"),
        (lambda one: one["metrics"]["deletion"].update(max_points=3), "deletion under mask"),
        (lambda one: one["metrics"]["deletion"].update(max_points="many"), "a metric or perturbation cannot be built"),
        (lambda one: one["perturbations"]["mask"].update(force=1), "Mask has no setting 'force'"),
        (lambda one: one.update(seed=5), "random-|soft_comprehensiveness"),
        (lambda one: one.update(target="gold"), "the explained class is another one|model"),
        (lambda one: one.update(target="nobody"), "no class of the model"),
        (lambda one: one.update(preset="eraser"), "it says that it follows eraser to the letter"),
        (lambda one: one.update(preset="nothing"), "there is no protocol 'nothing'"),
        (lambda one: one.update(version=2), "it follows protocol version 2; today's is"),
        (
            lambda one: one["perturbations"]["mask"].update(_target_="os.system"),
            "perturbations.mask is not Assay's",
        ),
        (
            lambda one: one["metrics"]["deletion"].update(inner={"_target_": "os.abort"}),
            "metrics.deletion is not Assay's",
        ),
        (lambda one: one["perturbations"]["mask"].update(masked_lm="../../weights"), "weights that are not on the hub"),
        (
            lambda one: one["perturbations"]["mask"].update(_target_="assay.perturbation.Delete"),
            "not the model's|reported",
        ),
    ],
)
def test_an_edited_protocol_with_keys_to_match_is_refused(
    place: Path, forged: Path, change: Callable[[Any], None], message: str
) -> None:
    forge_protocol(forged, change)
    assert re.search(message, refused(place, forged))


def test_an_edited_protocol_without_keys_to_match_is_refused(place: Path, forged: Path) -> None:
    forge_json(forged, "cell.json", lambda meta: meta["protocol"].update(seed=5))
    assert "the protocol is not the one that its key" in refused(place, forged)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cell.json", lambda meta: meta["measures"]["deletion"].update(direction="higher"), "directions or ranges"),
        ("cell.json", lambda meta: meta.update(accuracy=0.99), "accuracy is reported as 0.99"),
        ("cell.json", lambda meta: meta["cost"].update(forward_rows=1.0), "cost.forward_rows is reported as 1.0"),
        ("cell.json", lambda meta: meta["counts"].update(undefined={}), "counts.undefined is reported as"),
        ("cell.json", lambda meta: meta.update(extra=1), "cell.json: extra: an unknown key"),
        ("cell.json", lambda meta: meta["protocol"].update(extra=1), "protocol.extra: an unknown key"),
        ("cell.json", lambda meta: meta.update(schema=2), "is of schema 2; it must be 3"),
        ("config.json", lambda config: config["model"].update(path="../../models/x"), "no name of a repository"),
        ("config.json", lambda config: config["model"].update(trust_remote_code=True), "an unknown key"),
        (
            "config.json",
            lambda config: config["task"].update(_target_="subprocess.run"),
            "the task is not one of",
        ),
        ("config.json", lambda config: config["task"].update(path="/etc"), "the task names a path"),
        ("config.json", lambda config: config["task"].update(split="../../private"), "the task names a path"),
        ("config.json", lambda config: config["task"].update(aliases={"validation": "../a"}), "the task names a path"),
        ("environment.json", lambda about: about.update(user="me"), "an unknown key"),
    ],
)
def test_edited_descriptions_are_refused(
    place: Path, forged: Path, name: str, change: Callable[[Any], None], message: str
) -> None:
    forge_json(forged, name, change)
    assert message in refused(place, forged)


def test_scores_of_another_perturbation_under_this_ones_name_are_refused(place: Path, tmp_path: Path) -> None:
    assert run(place, tmp_path / "results", "perturbation=delete").code == 0
    assert submit(tmp_path / "results", tmp_path / "submission").code == 0
    for explainer in ("rise", "random", "oracle"):
        for table in ("scores", "curves", "answers", "attributions"):

            def relabel(rows: Rows) -> None:
                for row in rows:
                    if row["perturbation"] is not None:
                        row["perturbation"] = "mask"

            forge(tmp_path / "submission", table, relabel, explainer)

    def rename(protocol: Any) -> None:
        protocol["perturbations"] = {"mask": {"_target_": "assay.perturbation.Mask"}}

    forge_protocol(tmp_path / "submission", rename)
    assert "stored answers are not the model's" in refused(place, tmp_path / "submission")


def test_a_weak_ceiling_is_refused(place: Path, tmp_path: Path) -> None:
    """A search that did not look, under the name of one that did, would lift everybody's skill."""
    weak = [f"explainers.oracle.{name}" for name in ("exact_up_to=0", "width=1", "candidates=1")]
    assert run(place, tmp_path / "results", *weak, explainers="rise,oracle").code == 0
    submission = tmp_path / "submission"
    assert submit(tmp_path / "results", submission).code == 0
    honest = check(place, submission)
    assert honest.code == 0
    assert "has other settings than the defaults; skill is read against it" in honest.out
    settings = json.loads((cell_of(place / "submission", "oracle") / "cell.json").read_text("utf-8"))["explainer"]

    def pretend(meta: Any) -> None:
        meta["explainer"]["settings"] = settings["settings"]

    forge_json(submission, "cell.json", pretend, "oracle")
    forge_protocol(submission, lambda _: None)
    assert "it is no ceiling: a search with its settings finds rankings that are better by" in refused(
        place, submission
    )


def test_what_cannot_be_checked_here_is_the_users_mistake(place: Path, tmp_path: Path) -> None:
    submission = place / "submission"
    cases = {
        ("nowhere",): "There is no folder",
        (str(submission), "modelpath=x"): "Unknown setting 'modelpath'. Did you mean 'model.path'",
        (str(submission), "device"): "Cannot understand 'device'",
        (str(submission), "--share", "1.5"): "--share is 1.5",
        (str(submission), "--base", str(tmp_path)): "--base is for repositories",
        (str(submission), f"task.path={place / 'data'}"): "Say where it is here: model.path=FOLDER",
        (str(submission), f"task.path={tmp_path}", f"model.path={place / 'models'}"): str(tmp_path),
    }
    from tests.benchmark.cli import assay

    for arguments, message in cases.items():
        ended = assay("leaderboard", "check", *arguments)
        assert ended.code == 2, (arguments, ended.out)
        assert message in ended.err
        assert "Traceback" not in ended.err


def test_an_edit_that_only_the_model_can_tell_is_found_if_its_example_is_drawn(place: Path, forged: Path) -> None:
    """So that it is found as often as the share says: here two of six examples are drawn."""
    edited = ""

    def one_example(rows: Rows) -> None:
        nonlocal edited
        edited = rows[0]["example"]
        for row in rows:
            if row["example"] == edited:
                row["logits"] = [row["logits"][0] + 1e-3 * (1 + abs(row["logits"][0])), *row["logits"][1:]]

    forge(forged, "answers", one_example)
    here = Here(str(place / "data"), str(place / "models"), "cpu")
    own = [cell for cell in read_submission(forged)[1] if cell.explainer == "rise"]
    drawn = []
    for seed in range(8):
        found = recompute(own, {}, here, 0.2, np.random.default_rng(seed))
        assert len(found.examples) == 2
        assert bool(found.faults) == (edited in found.examples)
        drawn.append(edited in found.examples)
    assert 0 < sum(drawn) < len(drawn)
