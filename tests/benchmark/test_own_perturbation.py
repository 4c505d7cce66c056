"""An explainer may hide features otherwise than the run; matched and mismatched pairs stand side by side."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assay import registry
from assay.benchmark.cell import Cell
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.own_perturbation import build_explainer
from assay.benchmark.records import Records
from assay.benchmark.store import Store
from assay.classifier import Classifier
from assay.errors import AssayError
from assay.example import Example
from assay.perturbation import Delete
from tests.benchmark.cli import Ended, assay, save_model, save_task
from tests.tiny_masked_lm import tiny_masked_lm

SHORT = ("a dull film .", "good", "two men", "nobody is outside")
MINE = "explainers.leave_one_out.perturbation"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a masked language model, and a task that has a train split."""
    folder = tmp_path_factory.mktemp("own")
    save_model(folder / "model")
    lm = tiny_masked_lm()
    lm.model.save_pretrained(folder / "lm")
    lm.tokenizer.save_pretrained(folder / "lm")
    save_task(folder / "data", ("an old woman reads", "this movie was not good", "boring films", "learn to cook"))
    (folder / "data/sst2/validation.parquet").rename(folder / "data/sst2/train.parquet")
    save_task(folder / "data", SHORT)
    return folder


def run(place: Path, results: Path, *overrides: str) -> Ended:
    return assay(
        "run",
        f"model={place / 'model'}",
        "task=sst2",
        f"task.path={place / 'data'}",
        f"results={results}",
        "explainer=[leave_one_out]",
        "metric=comprehensiveness",
        "tracker=none",
        "model.device=cpu",
        "allow_low_accuracy=true",
        *overrides,
    )


def cells(results: Path) -> dict[str, Cell]:
    return {cell.explainer: cell for cell in Store(results).cells()}


def scores(cell: Cell) -> list[list[float]]:
    return [list(found) for found in cell.table("attributions")["scores"]]


def test_matched_and_mismatched_pairs_run_in_one_command(place: Path, tmp_path: Path) -> None:
    ended = run(
        place,
        tmp_path / "both",
        "+explainer@explainers.deleting=leave_one_out",
        "explainers.deleting.perturbation=delete",
        "perturbation=[mask,delete]",
    )
    assert ended.code == 0, ended.err
    both = cells(tmp_path / "both")
    used = {name: cell.meta["explainer"]["perturbation"] for name, cell in both.items()}
    assert used == {"leave_one_out": "mask", "deleting": "delete", "random": None, "oracle": None}
    assert run(place, tmp_path / "delete", "perturbation=delete").code == 0
    alone = cells(tmp_path / "delete")["leave_one_out"]
    assert alone.meta["explainer"]["perturbation"] == "delete"
    assert scores(both["deleting"]) == scores(alone)
    assert scores(both["leave_one_out"]) != scores(alone)
    assert set(both["deleting"].scores["perturbation"]) == {"mask", "delete"}


def test_it_is_part_of_the_cells_identity(place: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    for overrides in ((), (f"{MINE}=null",), (f"{MINE}=delete",), (f"{MINE}={{_target_: assay.perturbation.Pad}}",)):
        assert run(place, results, *overrides).code == 0
    found = sorted(
        str(cell.meta["explainer"]["perturbation"])
        for cell in Store(results).cells()
        if cell.explainer == "leave_one_out"
    )
    assert found == ["delete", "mask", "pad"]
    assert "all 3 cells were finished before" in run(place, results, f"{MINE}=delete").out


def test_a_sweep_goes_over_it(place: Path, tmp_path: Path) -> None:
    assert run(place, tmp_path, f"{MINE}=mask,unk", "-m").code == 0
    found = {c.meta["explainer"]["perturbation"] for c in Store(tmp_path).cells() if c.explainer == "leave_one_out"}
    assert found == {"mask", "unk"}


def test_what_a_perturbation_has_seen_is_part_of_the_identity(place: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(place / "data", data)
    fingerprints = []
    for round_ in range(2):
        own = (f"{MINE}=retrieval", "perturbation=[mask,retrieval]", "perturbations.retrieval.samples=2")
        ended = run(place, tmp_path / "results", *own, f"task.path={data}")
        assert ended.code == 0, ended.err
        (cell,) = [
            cell
            for cell in Store(tmp_path / "results").cells()
            if cell.explainer == "leave_one_out"
            and cell.meta["protocol"]["perturbations"]["retrieval"]["background_fingerprint"] not in fingerprints
        ]
        protocol = cell.meta["protocol"]["perturbations"]["retrieval"]
        explainer = cell.meta["explainer"]["settings"]["perturbation"]
        assert explainer["background_fingerprint"] == protocol["background_fingerprint"]
        assert explainer["samples"] == 2
        fingerprints.append(protocol["background_fingerprint"])
        if not round_:
            save_task(tmp_path / "other", ("a game of football", "the children sleep"))
            shutil.copy(tmp_path / "other/sst2/validation.parquet", data / "sst2/train.parquet")
    assert fingerprints[0] != fingerprints[1]


def test_the_weights_of_a_language_model_are_part_of_the_identity(place: Path, tmp_path: Path) -> None:
    lm = tiny_masked_lm()
    given = f"{{_target_: assay.infilling.Infill, masked_lm: {place / 'lm'}, samples: 2}}"
    ended = run(
        place, tmp_path, f"{MINE}={given}", "explainer=[leave_one_out,olm]", f"explainers.olm.masked_lm={place / 'lm'}"
    )
    assert ended.code == 0, ended.err
    found = cells(tmp_path)
    assert (
        found["leave_one_out"].meta["explainer"]["settings"]["perturbation"]["masked_lm_fingerprint"] == lm.fingerprint
    )
    assert found["olm"].meta["explainer"]["settings"]["masked_lm_fingerprint"] == lm.fingerprint
    assert {found[name].meta["explainer"]["perturbation"] for name in ("leave_one_out", "olm")} == {"infill"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ((f"{MINE}=delte",), "there is no perturbation 'delte'. Did you mean 'delete'?"),
        ((f"{MINE}=[mask]",), "there is no perturbation ['mask']"),
        ((f"{MINE}={{samples: 3}}",), "needs _target_"),
        ((f"{MINE}={{_target_: assay.explainers.surrogate.Lime}}",), "Lime does not inherit from Perturbation"),
        (("explainers.leave_one_uot.perturbation=mask",), "there is no explainer 'leave_one_uot' in this run."),
        (("explainers.lime.perturbation=mask",), "there is no explainer 'lime' in this run. Choose it first.\n"),
        (("explainer=gradient", "explainers.gradient.perturbation=mask"), "gradient looks inside the model"),
        (("explainer=olm", "explainers.olm.perturbation=mask"), "olm hides features by infill"),
        (("explainer=first", "explainers.first.perturbation=mask"), "first asks nothing of the model"),
        (("explainer=oracle", "explainers.oracle.perturbation=mask"), "oracle searches under each perturbation"),
        ((f"{MINE}=infill",), "infill draws fillings from a masked language model"),
    ],
)
def test_what_makes_no_sense_is_refused(place: Path, tmp_path: Path, overrides: tuple[str, ...], message: str) -> None:
    ended = run(place, tmp_path, *overrides)
    assert ended.code == 2
    assert message in ended.err


def test_retrieval_needs_a_train_split(place: Path, tmp_path: Path) -> None:
    save_task(tmp_path / "data", SHORT)
    for choice in ("perturbation=retrieval", f"{MINE}=retrieval"):
        ended = run(place, tmp_path / "results", choice, f"task.path={tmp_path / 'data'}")
        assert ended.code == 2
        assert "train" in ended.err


def evaluate(
    model: Classifier, explainer: Any, perturbations: tuple[str, ...], metrics: tuple[str, ...] = ()
) -> tuple[Records, int]:
    """What was found, and how many rows the model was asked for it."""
    evaluation = Evaluation(
        model,
        [Example("one", ("the film is warm and funny",)), Example("two", ("two men are playing",))],
        {name: registry.build("metric", name) for name in metrics},
        {name: registry.build("perturbation", name) for name in perturbations},
        Settings(),
    )
    evaluation.add_explainer("lime", explainer)
    records = evaluation.run()["lime"]
    return records, evaluation.engine.work.rows_answered


def test_under_several_perturbations_an_explainer_runs_once(tiny_bert: Classifier) -> None:
    lime = registry.build("explainer", "lime", samples=20)
    names = ("mask", "delete", "unk", "pad", "zero_embedding")
    _, alone = evaluate(tiny_bert, lime, ("mask",))
    assert alone > 20
    assert evaluate(tiny_bert, lime, names)[1] == alone
    found, together = evaluate(tiny_bert, lime, names, ("deletion",))
    # A deletion curve asks a row for each feature beside the full input, which is the same everywhere; under mask,
    # some of them are among those that the explainer asked.
    features = 6 + 4
    assert 4 * features <= together - alone <= 5 * features
    assert len(found.attributions) == 2
    headline = [row for row in found.scores if row["metric"] == "deletion"]
    assert {(row["example"], row["perturbation"]) for row in headline} == {
        (example, name) for example in ("one", "two") for name in names
    }
    assert len({round(row["value"], 6) for row in headline}) == 10


def test_its_own_perturbation_is_what_it_asks_by(tiny_bert: Classifier) -> None:
    content = {**registry.settings("explainer", "leave_one_out"), "perturbation": "delete"}
    explainer = build_explainer("mine", content, {"mask": registry.settings("perturbation", "mask")})
    assert isinstance(explainer.perturbation, Delete)
    assert json.loads(json.dumps(content["perturbation"])) == {
        "name": "delete",
        "_target_": "assay.perturbation.Delete",
    }
    own, _ = evaluate(tiny_bert, explainer, ("mask",))
    run_wide, _ = evaluate(tiny_bert, registry.build("explainer", "leave_one_out"), ("delete",))
    masked, _ = evaluate(tiny_bert, registry.build("explainer", "leave_one_out"), ("mask",))
    for one, same, other in zip(own.attributions, run_wide.attributions, masked.attributions, strict=True):
        np.testing.assert_allclose(one["scores"], same["scores"], atol=1e-6)
        assert np.abs(np.array(one["scores"]) - other["scores"]).max() > 1e-3


def test_a_perturbation_of_the_run_is_taken_with_its_settings() -> None:
    run_wide = {"words": {**registry.settings("perturbation", "retrieval"), "samples": 3}}
    content = {**registry.settings("explainer", "lime"), "perturbation": "words"}
    explainer = build_explainer("lime", content, run_wide)
    assert explainer.perturbation is not None
    assert explainer.perturbation.draws == 3
    assert content["perturbation"]["name"] == "words"
    with pytest.raises(AssayError, match="Known: delete, infill, mask"):
        build_explainer("lime", {**registry.settings("explainer", "lime"), "perturbation": "xxxxxxx"}, {})
