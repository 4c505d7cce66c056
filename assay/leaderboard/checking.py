"""Checking a submission: its form, its cells in themselves, and a share of the model's answers asked for again."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from assay import registry
from assay.benchmark.judging import CONTROLS
from assay.benchmark.whole_folder import checksum
from assay.errors import AssayError
from assay.leaderboard.following import Judged, follow
from assay.leaderboard.recomputing import Here, recompute
from assay.leaderboard.submission import PARTS, Submission
from assay.leaderboard.submitted_cell import SubmittedCell
from assay.leaderboard.untrusted import Refused, plain_files, read_json, validated
from assay.plain_text import clean

SHARE = 0.2
_SHOWN = 5  # faults of one cell


@dataclass
class Report:
    """What a check found.

    Attributes:
        faults: why it is refused, each in one line that names the cell; none if it holds.
        notes: what was done, and what is taken on trust.
    """

    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, faults: Sequence[str]) -> None:
        """Take in the faults of a cell, the first few of them in words."""
        about = f"{name}: " if name else ""
        self.faults += [f"{about}{fault}" for fault in faults[:_SHOWN]]
        if len(faults) > _SHOWN:
            self.faults.append(f"{about}and {len(faults) - _SHOWN} more")

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def check_submission(
    folder: Path, here: Here | None = None, share: float = SHARE, seed: int | None = None, model: bool = True
) -> Report:
    """Check a submission.

    Args:
        folder: of the submission.
        here: where task and model are on this machine.
        share: of the examples that the model is asked about again, in (0, 1].
        seed: draws them; None for a fresh one, which no submitter can know.
        model: whether the model is asked at all.

    Raises:
        AssayError: there is no submission, `share` is no share, or task or model cannot be had here.
    """
    check_share(share)
    if not folder.is_dir():
        raise AssayError(f"There is no folder {str(folder)!r}.")
    report = Report()
    try:
        submission, cells = read_submission(folder)
    except Refused as reason:
        report.faults.append(str(reason))
        return report
    method = submission.method
    own = len(submission.cells)
    report.notes.append(
        f"{method.name} ({submission.explainer}), {method.link}: {own} cells, and {len(cells) - own} of controls."
    )
    check_cells(cells, report, here or Here(), share, seed, model)
    return report


def read_submission(folder: Path) -> tuple[Submission, list[SubmittedCell]]:
    """What is submitted, if all files have the right form and are those that are named; the cells in order of path.

    Raises:
        Refused: they are not; the message names the first fault.
    """
    files = plain_files(folder)
    if "submission.json" not in files:
        raise Refused(f"{folder} is no submission: it has no submission.json")
    submission = validated(Submission, read_json(folder / "submission.json"), "submission.json")
    places = places_of([file for file in files if file != "submission.json"])
    cells = [SubmittedCell.read(folder, place) for place in places]
    check_listed(submission, folder, dict(zip(places, cells, strict=True)))
    protocols = {str(cell.meta["protocol_key"]) for cell in cells if cell.explainer == submission.explainer}
    for cell in cells:
        if cell.explainer not in CONTROLS and cell.path.relative_to(folder).as_posix() not in {
            listed.path for listed in submission.cells
        }:
            raise Refused(f"{cell.name} is neither listed in submission.json nor a control")
    for protocol in protocols:
        for control in CONTROLS:
            found = [cell for cell in cells if (cell.explainer, cell.meta["protocol_key"]) == (control, protocol)]
            if len(found) != 1:
                raise Refused(
                    f"under protocol {protocol} there must be one control {control!r}; there are {len(found)}"
                )
    return submission, cells


def places_of(files: Sequence[str]) -> list[str]:
    """The folders of the cells that some files make up.

    Raises:
        Refused: a file that belongs to no cell, or a cell that lacks one.
    """
    places: dict[str, set[str]] = {}
    for file in files:
        place, _, name = file.rpartition("/")
        if place.count("/") != 2 or name not in PARTS:
            raise Refused(f"{clean(file)} does not belong here")
        places.setdefault(place, set()).add(name)
    for place, names in places.items():
        if len(names) < len(PARTS):
            raise Refused(f"{clean(place)} lacks {', '.join(sorted(set(PARTS) - names))}")
    return sorted(places)


def check_listed(submission: Submission, folder: Path, cells: dict[str, SubmittedCell]) -> None:
    """See that the cells that a submission lists are there, unchanged, and its explainer's.

    Raises:
        Refused: one is not.
    """
    listed = [one.path for one in submission.cells]
    if len(set(listed)) < len(listed):
        raise Refused("submission.json lists a cell twice")
    for one in submission.cells:
        cell = cells.get(one.path)
        if cell is None:
            raise Refused(f"submission.json lists {clean(one.path)}, which is not there")
        if cell.explainer != submission.explainer or cell.explainer in CONTROLS:
            raise Refused(f"submission.json lists {clean(one.path)}, which is not a cell of {submission.explainer}")
        if checksum(folder / one.path / "checksums.json") != one.sha256:
            raise Refused(f"{clean(one.path)}/checksums.json is not the one that submission.json names")


def check_cells(
    cells: Sequence[SubmittedCell], report: Report, here: Here, share: float, seed: int | None, model: bool
) -> None:
    """Hold cells against themselves, and if they stand that, against the model.

    Args:
        cells: of any protocols.
        report: takes what is found.
        here: where task and model are on this machine.
        share: of the examples that the model is asked about again.
        seed: draws them; None for a fresh one.
        model: whether the model is asked at all.
    """
    open_questions: dict[str, dict[Judged, bool]] = {}
    for cell in cells:
        faults = cell.faults()
        if not faults:
            followed = follow(cell)
            faults, open_questions[cell.name] = followed.faults, followed.open
        report.add(cell.name, faults)
    if not report.holds:
        return
    report.notes.append("In themselves: every score, draw and curve follows from the stored attributions and answers.")
    if model:
        _ask_again(cells, open_questions, report, here, share, seed)
    told = sorted({name for cell in cells for name in cell.judges})
    for cell in cells:
        default = registry.settings("explainer", cell.explainer) if cell.explainer in CONTROLS else None
        if default is not None and cell.meta["explainer"]["settings"] != default:
            report.notes.append(f"{cell.name} has other settings than the defaults; skill is read against it.")
    report.notes.append("On trust: seconds and rows, and that the attributions are the method's with these settings.")
    if told:
        report.notes.append(f"On trust too, as the method itself would have to explain again: {', '.join(told)}.")


def _ask_again(
    cells: Sequence[SubmittedCell],
    open_questions: dict[str, dict[Judged, bool]],
    report: Report,
    here: Here,
    share: float,
    seed: int | None,
) -> None:
    seed = secrets.randbits(32) if seed is None else seed
    by_protocol: dict[str, list[SubmittedCell]] = {}
    for cell in cells:
        by_protocol.setdefault(str(cell.meta["protocol_key"]), []).append(cell)
    for number, (protocol, group) in enumerate(sorted(by_protocol.items())):
        about = f"{group[0].protocol['task']['name']} × {group[0].protocol['model']['name']} (protocol {protocol[:8]})"
        found = recompute(group, open_questions, here, share, np.random.default_rng([seed, number]))
        for name, faults in found.faults.items():
            report.add(name or clean(about), faults)
        examples = group[0].protocol["task"]["examples"]
        report.notes.append(
            f"{clean(about)}: with seed {seed}, the model was asked about {len(found.examples)} of {examples} examples "
            f"again; {found.answers:,} answers, logits off by at most {found.largest:.1g}."
        )


def check_share(share: float) -> None:
    """See that a share is one.

    Raises:
        AssayError: it is none.
    """
    if not 0 < share <= 1:
        raise AssayError(f"--share is {share}; it is a share of the examples, above 0 and at most 1.")
