"""A repository of results: laying it out, taking a submission in, and checking what a change adds to it.

README.md, CITATION.cff, requirements.txt, .github/workflows/{check,site}.yml
results/<task>/<model>/<explainer>-<key>/    cells, as in any results folder
results/submissions/<explainer>-<digest>.json    what submissions say of themselves: the method and its cells
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from assay.benchmark.cell import Cell
from assay.benchmark.judging import CONTROLS
from assay.benchmark.store import slug
from assay.benchmark.whole_folder import checksum
from assay.digests import digest
from assay.errors import AssayError
from assay.leaderboard.checking import Report, check_cells, check_share, places_of, read_submission
from assay.leaderboard.recomputing import Here
from assay.leaderboard.submission import Method, Submission, place_of, write_json
from assay.leaderboard.submitted_cell import SubmittedCell
from assay.leaderboard.untrusted import Refused, plain_files, read_json, validated
from assay.plain_text import clean

_FILES = Path(__file__).parent / "repository_files"
_LAID_OUT = {
    "README.md": "README.md",
    "citation.yml": "CITATION.cff",
    "check.yml": ".github/workflows/check.yml",
    "site.yml": ".github/workflows/site.yml",
}
_SUBMISSIONS = "submissions"
_KEEP = ".gitkeep"


def init(folder: Path) -> list[str]:
    """Lay out an empty repository of results; the files that were written.

    Raises:
        AssayError: the folder holds something already, or cannot be written.
    """
    try:
        if folder.exists() and any(one.name != ".git" for one in folder.iterdir()):
            raise AssayError(f"{str(folder)!r} is not empty. Name a new folder.")
        for name, place in _LAID_OUT.items():
            target = folder / place
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_FILES / name, target)
        (folder / "requirements.txt").write_text(f"assay=={version('assay')}\n", "utf-8")
        (folder / ".gitattributes").write_text("*.parquet binary\nresults/** -text\n", "utf-8")
        (folder / "results" / _SUBMISSIONS).mkdir(parents=True)
        (folder / "results" / _SUBMISSIONS / _KEEP).touch()
    except OSError as error:
        raise AssayError(f"{str(folder)!r} cannot be written: {error.strerror or error}.") from error
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def accept(submission_folder: Path, repository: Path) -> list[str]:
    """Copy a submission's cells into a repository; what was added. It is not checked further than its form.

    Controls that are there already are left as they are.

    Raises:
        AssayError: it is no submission or no repository, or one of the two has what the other has otherwise.
    """
    results = repository / "results"
    if not results.is_dir():
        raise AssayError(f"{str(repository)!r} has no folder results. `assay leaderboard init` lays out a repository.")
    try:
        submission, cells = read_submission(submission_folder)
    except Refused as reason:
        raise AssayError(f"{reason}. `assay leaderboard check` says more.") from reason
    known = _known(results)
    for cell in cells:
        rival = _rival(cell.meta, known)
        if rival is not None:
            raise AssayError(f"{cell.name}: {rival}")
    staged = results / f".{uuid.uuid4().hex[:8]}"
    added = []
    try:
        for cell in cells:
            place = cell.path.relative_to(submission_folder)
            if not (results / place).exists():
                shutil.copytree(cell.path, staged / place)
                added.append(place)
        entry = Path(_SUBMISSIONS) / f"{slug(submission.explainer)}-{digest(submission.model_dump())[:8]}.json"
        (staged / _SUBMISSIONS).mkdir(parents=True)
        write_json(staged / entry, submission.model_dump())
        added.append(entry)
        for place in added:
            (results / place).parent.mkdir(parents=True, exist_ok=True)
            (staged / place).rename(results / place)
    except OSError as error:
        raise AssayError(f"{str(results)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return [f"results/{place.as_posix()}" for place in added]


def published_methods(results: Path) -> dict[str, Method]:
    """Who answers for which cell, by the cell's folder within the results: what submissions say of themselves.

    Args:
        results: the results of a repository, or a submission.

    Raises:
        AssayError: one of the entries is not of its form.
    """
    entries = [*sorted((results / _SUBMISSIONS).glob("*.json")), *results.glob("submission.json")]
    found = {}
    for entry in entries:
        try:
            submission = validated(Submission, read_json(entry), str(entry))
        except Refused as reason:
            raise AssayError(f"{reason}.") from reason
        found.update({listed.path: submission.method for listed in submission.cells})
    return found


def check_repository(
    folder: Path,
    base: Path | None = None,
    here: Here | None = None,
    share: float = 0.2,
    seed: int | None = None,
    model: bool = True,
) -> Report:
    """Check a repository of results, or what has changed since an older state of it.

    Args:
        folder: of the repository.
        base: a copy of the older state; what is there must be here as it was, and only the rest is asked of the model.
            None to check everything.
        here: where tasks and models are on this machine.
        share: of the examples that the model is asked about again.
        seed: draws them; None for a fresh one.
        model: whether the model is asked at all.

    Raises:
        AssayError: one of them is no repository, or a task or model cannot be had here.
    """
    check_share(share)
    for one in (folder, base):
        if one is not None and not (one / "results").is_dir():
            raise AssayError(f"{str(one)!r} is no repository of results: it has no folder results.")
    report, results = Report(), folder / "results"
    try:
        files = _files(results)
        before = {} if base is None else _sums(base / "results")
        kept = [*_compare(before, {file: checksum(results / file) for file in files if file in before})]
        for fault in kept:
            report.faults.append(fault)
        new = [file for file in files if file not in before]
        cells, submissions = _split(files)
        new_places = sorted({file.rpartition("/")[0] for file in new} & set(cells))
        added = [SubmittedCell.read(results, place) for place in new_places]
        _check_listed(results, submissions, {cell.path.relative_to(results).as_posix(): cell for cell in added})
        known = _known(results)
        for cell in added:
            rival = _rival(cell.meta, known) or _twin(cell, known, results)
            if rival is not None:
                report.add(cell.name, [rival])
            if not set(CONTROLS) <= {one["explainer"]["name"] for one in known if _same_protocol(one, cell.meta)}:
                report.add(cell.name, [f"its protocol lacks one of the controls {' and '.join(CONTROLS)}"])
    except Refused as reason:
        report.faults.append(str(reason))
        return report
    report.notes.append(f"{len(cells)} cells, {len(added)} of them new.")
    if base is not None:
        for place in _changed_elsewhere(folder, base):
            report.notes.append(f"Not checked, read it yourself: {clean(place)} has changed.")
    if report.holds and added:
        check_cells(added, report, here or Here(), share, seed, model)
    return report


def _files(results: Path) -> list[str]:
    return [file for file in plain_files(results) if file.rpartition("/")[2] != _KEEP]


def _sums(results: Path) -> dict[str, str]:
    return {file: checksum(results / file) for file in _files(results)}


def _compare(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    gone: dict[str, str] = {}
    for file, told in before.items():
        if now.get(file) != told:
            gone.setdefault(file.rpartition("/")[0], "removed" if file not in now else "changed")
    for place, how in gone.items():
        yield f"{clean(place)} was {how}. What is here stays; a corrected result is a new cell with a new key"


def _split(files: Sequence[str]) -> tuple[list[str], list[str]]:
    """The folders of cells, and the entries of submissions."""
    submissions = [file for file in files if file.startswith(f"{_SUBMISSIONS}/") and file.endswith(".json")]
    return places_of([file for file in files if file not in submissions]), submissions


def _known(results: Path) -> list[dict[str, Any]]:
    """The content of every cell.json; those of older schemas are among them."""
    return [read_json(results / place / "cell.json") for place in _split(_files(results))[0]]


def _same_protocol(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["protocol_key"] == other["protocol_key"])


def _rival(meta: Mapping[str, Any], known: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a cell cannot stand beside those that are there: another of the same name under the same protocol."""
    name = str(meta["explainer"]["name"])
    for one in known:
        other = str(one["explainer"]["name"])
        if one["key"] != meta["key"] and _same_protocol(one, meta) and other.casefold() == name.casefold():
            advice = (
                "a protocol has one of each, so run with its settings"
                if name in CONTROLS
                else f"give yours another name, as in +explainer@explainers.{clean(name, 40)}_2={clean(name, 40)}"
            )
            return f"there is {clean(other)}-{one['key']} with other settings under the same protocol; {advice}"
    return None


def _twin(cell: SubmittedCell, known: Sequence[Mapping[str, Any]], results: Path) -> str | None:
    """Why a cell is one that is there already: another has the same attributions throughout."""
    if cell.explainer in CONTROLS:
        return None
    own = _attributions(cell.rows("attributions"))
    for one in known:
        if one["key"] != cell.meta["key"] and _same_protocol(one, cell.meta):
            place = place_of(one)
            if _attributions(Cell.read(results / place).rows("attributions")) == own:
                return f"its attributions are those of {clean(place)}, all of them"
    return None


def _attributions(rows: Sequence[Mapping[str, Any]]) -> str:
    return digest(sorted([row["example"], row["draw"], row["scores"]] for row in rows))


def _check_listed(results: Path, entries: Sequence[str], added: Mapping[str, SubmittedCell]) -> None:
    """See that each new cell of a method has one submission that answers for it.

    Raises:
        Refused: one has none or several, or a submission lists what is not there.
    """
    owners: dict[str, str] = {}
    for entry in entries:
        submission = validated(Submission, read_json(results / entry), entry)
        for one in submission.cells:
            if one.path in owners:
                raise Refused(f"{clean(one.path)} is listed by {owners[one.path]} and by {clean(entry)}")
            owners[one.path] = clean(entry)
            sums = results / one.path / "checksums.json"
            if ".." in one.path.split("/") or one.path.startswith("/") or not sums.is_file():
                raise Refused(f"{clean(entry)} lists {clean(one.path)}, which is not there")
            if checksum(sums) != one.sha256:
                raise Refused(f"{clean(one.path)}/checksums.json is not the one that {clean(entry)} names")
            if one.path in added and added[one.path].explainer != submission.explainer:
                raise Refused(f"{clean(entry)} lists {clean(one.path)}, which is not a cell of {submission.explainer}")
    for place, cell in added.items():
        if place not in owners and cell.explainer not in CONTROLS:
            raise Refused(f"no file in results/{_SUBMISSIONS} answers for {clean(place)}")


def _changed_elsewhere(folder: Path, base: Path) -> Iterator[str]:
    """Files outside of the results that are not as they were."""
    outside = [
        {
            path.relative_to(root).as_posix(): path
            for path in root.rglob("*")
            if path.relative_to(root).parts[0] not in ("results", ".git") and (path.is_file() or path.is_symlink())
        }
        for root in (folder, base)
    ]
    now, before = outside
    for place in sorted({*now, *before}):
        one, other = now.get(place), before.get(place)
        if one is None or other is None or one.is_symlink() or checksum(one) != checksum(other):
            yield place
