"""`assay export eraser`: results in the format of ERASER (DeYoung et al. 2020), whose own scorer can read them.

<out>/<task>/<model>/<protocol>/
    <split>.jsonl                         annotations: the gold label, and the rationale where the task knows one
    docs/<example>                        the words that the model reads; a pair is two documents
    <explainer>-<perturbation>.jsonl      what ERASER calls results, a line for each example
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from assay import registry
from assay.benchmark import scoring
from assay.benchmark.cell import Cell
from assay.benchmark.records import Record
from assay.benchmark.store import Store, slug
from assay.conversation import Attribution, Feature
from assay.errors import AssayError
from assay.metrics.erasure import Comprehensiveness, Sufficiency
from assay.metrics.paths import counts as counts_of

_PARTS = ("premise", "hypothesis")
# ERASER wants scores at one k beside those at the thresholds, and takes that k from people's rationales.
_SINGLE = 0.2


@dataclass(frozen=True)
class Exported:
    """A file of results.

    Attributes:
        path: the file.
        explainer: the explainer's name.
        perturbation: how features left the input.
        examples: how many lines it has.
        left_out: examples without an attribution, which ERASER has no line for.
        thresholds: the fractions of the words.
    """

    path: Path
    explainer: str
    perturbation: str
    examples: int
    left_out: int
    thresholds: tuple[float, ...]


def export(results: str | Path, out: Path) -> list[Exported]:
    """Write all cells that hold comprehensiveness and sufficiency, of the same fractions, for ERASER's scorer.

    The scorer's `comprehensiveness_aopc` and `sufficiency_aopc` are then the cell's `comprehensiveness` and
    `sufficiency`. Of an explainer that draws several attributions for an example, the class scores are averaged over
    the draws.

    Args:
        results: a folder that `assay run` filled, or its URL.
        out: a folder to write into; made if it is not there, and refused if something stands where results would go.

    Raises:
        AssayError: no such results, none that fits, or `out` cannot be written.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in Store(results).checked_cells():
        groups.setdefault(str(cell.meta["protocol_key"]), []).append(cell)
    reasons = {key: _misfit(cells[0].protocol) for key, cells in groups.items()}
    fitting = [cells for key, cells in groups.items() if reasons[key] is None]
    if not fitting:
        raise AssayError(f"Nothing can be exported: {next(iter(reasons.values()))}")
    out = Path(out)
    places = [_place(out, cells[0]) for cells in fitting]
    for place in places:
        if place.exists():
            raise AssayError(f"{str(place)!r} exists; name another folder, or remove it first.")
    exported = []
    for cells, place in zip(fitting, places, strict=True):
        temporary = out / f".writing-{uuid.uuid4().hex[:8]}"
        try:
            temporary.mkdir(parents=True)
            found = _write(cells, temporary)
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.rename(place)
        except OSError as error:
            raise AssayError(f"The folder {str(out)!r} cannot be written: {error.strerror or error}.") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        exported += [Exported(place / one.path.name, *list(vars(one).values())[1:]) for one in found]
    return exported


def _place(out: Path, cell: Cell) -> Path:
    protocol = cell.protocol
    return out / slug(protocol["task"]["name"]) / slug(protocol["model"]["name"]) / str(cell.meta["protocol_key"])


def _misfit(protocol: Mapping[str, Any]) -> str | None:
    """Why ERASER's scorer would not return the scores of a protocol; None if it does."""
    if protocol["output"] != "probability" or protocol["contrast"] is not None:
        return "ERASER's scorer reads probabilities of the predicted class; these results measure another output."
    if protocol["target"] != "predicted":
        return f"ERASER scores the predicted class, and these results explain target={protocol['target']}."
    both = _metrics(protocol)
    if both is None:
        return (
            "there must be comprehensiveness and sufficiency among the metrics, of the same fractions. "
            "For example: assay score RESULTS protocol=eraser."
        )
    return None


def _metrics(protocol: Mapping[str, Any]) -> tuple[str, str, Comprehensiveness] | None:
    """The names of comprehensiveness and sufficiency in a protocol, and the first of them."""
    found: dict[str, tuple[str, Any]] = {}
    for name, content in protocol["metrics"].items():
        for kind in (Comprehensiveness, Sufficiency):
            if content["_target_"] == f"{kind.__module__}.{kind.__name__}":
                found[kind.name] = name, registry.instantiate(content)
    if len(found) < 2:
        return None
    (first, comprehensiveness), (second, sufficiency) = found["comprehensiveness"], found["sufficiency"]
    return (first, second, comprehensiveness) if comprehensiveness.fractions == sufficiency.fractions else None


def _write(cells: Sequence[Cell], folder: Path) -> list[Exported]:
    """All files of one protocol."""
    protocol = cells[0].protocol
    examples = {row["example"]: row for row in cells[0].rows("examples") if row["features"]}
    names = _names(list(examples))
    (folder / "docs").mkdir()
    labels: Sequence[str] = protocol["model"]["labels"]
    annotations = []
    for example, row in examples.items():
        documents = _documents(names[example], row)
        for document, places in documents.items():
            text = " ".join(row["features"][place] for place in places)
            (folder / "docs" / document).write_text(text + "\n", "utf-8")
        annotations.append(_annotation(names[example], row, documents, labels))
    _write_lines(folder / f"{slug(protocol['task']['split'])}.jsonl", annotations)
    exported = []
    for cell in cells:
        for perturbation in protocol["perturbations"]:
            lines, left_out, thresholds = _results(cell, perturbation, names, labels)
            if lines:
                path = folder / f"{cell.path.name}-{slug(perturbation)}.jsonl"
                _write_lines(path, lines)
                exported.append(Exported(path, cell.explainer, perturbation, len(lines), left_out, thresholds))
    return exported


def _names(examples: Sequence[str]) -> dict[str, str]:
    """A name for each example that is safe as a file's, and its own."""
    names: dict[str, str] = {}
    for place, example in enumerate(examples):
        name = slug(example)
        names[example] = name if name not in names.values() else f"{name}-{place}"
    return names


def _documents(name: str, row: Record) -> dict[str, list[int]]:
    """The places of the words in each document of an example."""
    segments = np.array(row["segments"])
    if not segments.any():
        return {name: list(range(len(segments)))}
    return {f"{name}_{part}": np.flatnonzero(segments == number).tolist() for number, part in enumerate(_PARTS)}


def _annotation(
    name: str, row: Record, documents: Mapping[str, Sequence[int]], labels: Sequence[str]
) -> dict[str, Any]:
    chosen = _known(row)
    evidences = []
    for document, places in documents.items():
        for token, place in enumerate(places):
            if chosen is not None and chosen[place]:
                evidences.append(
                    {
                        "text": row["features"][place],
                        "docid": document,
                        "start_token": token,
                        "end_token": token + 1,
                        "start_sentence": 0,
                        "end_sentence": 1,
                    }
                )
    return {
        "annotation_id": name,
        "query": "",
        "evidences": [evidences] if evidences else [],
        "classification": "" if row["label"] is None else labels[row["label"]],
        "query_type": None,
        "docids": list(documents),
    }


def _known(row: Record) -> Sequence[bool] | None:
    """The words that decide, or that most people marked; None where neither is known."""
    if row["rationale"] is not None:
        rationale: Sequence[bool] = row["rationale"]
        return rationale
    if not row["highlights"]:
        return None
    marked: list[bool] = (np.nanmean(np.array(row["highlights"], dtype=np.float64), axis=0) >= 0.5).tolist()
    return marked


def _chosen(places: Sequence[int], top: NDArray[np.intp]) -> dict[str, Any]:
    spans = [{"start_token": token, "end_token": token + 1} for token, place in enumerate(places) if place in top]
    return {"hard_rationale_predictions": spans}


def _results(
    cell: Cell, perturbation: str, names: Mapping[str, str], labels: Sequence[str]
) -> tuple[list[dict[str, Any]], int, tuple[float, ...]]:
    """A line for each example that has an attribution, how many have none, and the thresholds."""
    found = _metrics(cell.protocol)
    assert found is not None
    remove, leave, metric = found
    answers = {
        (row["example"], row["keep"]): row["logits"]
        for row in cell.rows("answers")
        if row["perturbation"] == perturbation
    }
    drawn: dict[str, list[Record]] = {}
    for row in cell.rows("attributions"):
        drawn.setdefault(row["example"], []).append(row)
    examples = cell.rows("examples")
    # The scorer divides by the number of true spans, and passes over what has no hard predictions.
    known = any(_known(row) is not None for row in examples)
    lines, left_out = [], 0
    for row in examples:
        draws = [draw for draw in drawn[row["example"]] if draw["perturbation"] in (None, perturbation)]
        # What searches has a ranking for each metric.
        removing = [draw for draw in draws if draw["metric"] in (None, remove)]
        leaving = [draw for draw in draws if draw["metric"] in (None, leave)]
        if not removing or not leaving or any(draw["scores"] is None for draw in (*removing, *leaving)):
            left_out += 1
            continue
        rankings = {draw["draw"]: _ranking(cell, row, draw) for draw in (*removing, *leaving)}

        def scores(
            k: int,
            removed: bool,
            row: Record = row,
            removing: list[Record] = removing,
            leaving: list[Record] = leaving,
            rankings: Mapping[int, NDArray[np.intp]] = rankings,
        ) -> dict[str, float]:
            draws, n = removing if removed else leaving, len(row["features"])
            kept = [np.isin(np.arange(n), rankings[draw["draw"]][:k], invert=removed)[None] for draw in draws]
            logits = [answers[row["example"], np.packbits(keep, axis=1)[0].tobytes()] for keep in kept]
            return _by_class(softmax(np.array(logits, dtype=np.float64), axis=1).mean(axis=0), labels)

        counts = counts_of(metric.fractions, len(row["features"])).tolist()
        thresholded = [
            {
                "threshold": threshold,
                "comprehensiveness_classification_scores": scores(k, True),
                "sufficiency_classification_scores": scores(k, False),
            }
            for threshold, k in zip(metric.fractions, counts, strict=True)
        ]
        single = min(range(len(counts)), key=lambda place: abs(metric.fractions[place] - _SINGLE))
        top = rankings[removing[0]["draw"]][: counts[single]]
        mean = np.mean([draw["scores"] for draw in removing], axis=0)
        whole = softmax(np.array(row["logits"], dtype=np.float64))
        lines.append(
            {
                "annotation_id": names[row["example"]],
                "rationales": [
                    {
                        "docid": document,
                        "soft_rationale_predictions": [float(mean[place]) for place in places],
                        **(_chosen(places, top) if known else {}),
                    }
                    for document, places in _documents(names[row["example"]], row).items()
                ],
                "classification": labels[row["target"]],
                "classification_scores": _by_class(whole, labels),
                "comprehensiveness_classification_scores": thresholded[single][
                    "comprehensiveness_classification_scores"
                ],
                "sufficiency_classification_scores": thresholded[single]["sufficiency_classification_scores"],
                "thresholded_scores": thresholded,
            }
        )
    return lines, left_out, metric.fractions


def _ranking(cell: Cell, row: Record, draw: Record) -> NDArray[np.intp]:
    features = tuple(Feature(*key) for key in zip(row["features"], row["segments"], row["positions"], strict=True))
    attribution = Attribution(features, np.array(draw["scores"]), row["target"], draw["signed"])
    return scoring.ranking(attribution, int(cell.protocol["seed"]), row["example"], draw["draw"])


def _by_class(probabilities: NDArray[np.float64], labels: Sequence[str]) -> dict[str, float]:
    return {label: float(value) for label, value in zip(labels, probabilities, strict=True)}


def _write_lines(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
