"""A real submission of a tiny model, and a forger who knows how the checksums are made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from assay.benchmark.tables import table_schema
from assay.benchmark.whole_folder import checksum
from assay.digests import digest
from tests.benchmark.cli import Ended, assay, save_model, save_task
from tests.tiny_models import CORPUS

LINK = "https://example.org/paper?id=1"
METHOD = ("--name", "My method", "--link", LINK, "--citation", "@article{mine, title={Mine}}")
Rows = list[dict[str, Any]]


def make_place(folder: Path) -> Path:
    """A folder with a model, a task, results of two explainers, and a submission of one of them."""
    save_model(folder / "models" / "tiny")
    save_task(folder / "data", (*CORPUS[:4], "", "good film"))
    ended = run(folder, folder / "results")
    assert ended.code == 0, ended.err
    ended = submit(folder / "results", folder / "submission")
    assert ended.code == 0, ended.err
    return folder


def run(place: Path, results: Path, *overrides: str, explainers: str = "gradient_x_input,rise") -> Ended:
    return assay(
        "run",
        f"model={place / 'models' / 'tiny'}",
        "task=sst2",
        f"task.path={place / 'data'}",
        f"results={results}",
        f"explainer=[{explainers}]",
        "explainers.rise.samples=16",
        "metric=[comprehensiveness,deletion,soft_comprehensiveness,cost]",
        "tracker=none",
        "model.device=cpu",
        "allow_low_accuracy=true",
        *overrides,
    )


def submit(results: Path, out: Path, explainer: str = "rise", *more: str) -> Ended:
    return assay("leaderboard", "submit", str(results), "--explainer", explainer, *METHOD, "--out", str(out), *more)


def check(place: Path, folder: Path, *more: str) -> Ended:
    paths = (f"model.path={place / 'models'}", f"task.path={place / 'data'}", "device=cpu")
    return assay("leaderboard", "check", str(folder), *paths, *more)


def cell_of(submission: Path, explainer: str = "rise") -> Path:
    (cell,) = submission.glob(f"*/*/{explainer}-*")
    return cell


def forge(submission: Path, table: str, change: Callable[[Rows], Rows | None], explainer: str = "rise") -> None:
    """Change the rows of a table of a cell, in place or for those returned, and cover the traces."""
    path = cell_of(submission, explainer) / f"{table}.parquet"
    rows = pq.read_table(path).to_pylist()
    rows = change(rows) or rows
    pq.write_table(pa.Table.from_pylist(rows, schema=table_schema(table)), path)
    cover(submission)


def forge_json(submission: Path, name: str, change: Callable[[Any], None], explainer: str = "rise") -> None:
    path = cell_of(submission, explainer) / name
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    cover(submission)


def forge_protocol(submission: Path, change: Callable[[Any], None]) -> None:
    """Change the protocol of all cells, with keys and folders to match."""
    for cell in sorted(submission.glob("*/*/*-*")):
        meta = json.loads((cell / "cell.json").read_text("utf-8"))
        change(meta["protocol"])
        identity = {name: meta["explainer"][name] for name in ("name", "settings")}
        meta["protocol_key"] = digest(meta["protocol"])
        meta["key"] = digest({"protocol": meta["protocol"], "explainer": identity})
        (cell / "cell.json").write_text(json.dumps(meta), "utf-8")
        cell.rename(cell.with_name(f"{meta['explainer']['name']}-{meta['key']}"))
    cover(submission)


def cover(submission: Path) -> None:
    """Make all checksums those of what is there now."""
    listed = []
    about = json.loads((submission / "submission.json").read_text("utf-8"))
    for cell in sorted(submission.glob("*/*/*-*")):
        sums = {file.name: checksum(file) for file in sorted(cell.iterdir()) if file.name != "checksums.json"}
        (cell / "checksums.json").write_text(json.dumps(sums), "utf-8")
        if cell.name.startswith(about["explainer"]):
            path = cell.relative_to(submission).as_posix()
            listed.append({"path": path, "sha256": checksum(cell / "checksums.json")})
    about["cells"] = listed
    (submission / "submission.json").write_text(json.dumps(about), "utf-8")


def copied(place: Path, target: Path) -> Path:
    """A copy of the submission, to forge."""
    return Path(shutil.copytree(place / "submission", target / "submission"))
