"""Results on disk: one folder for each cell, named by its key, written whole or not at all.

    <results>/<task>/<model>/<explainer>-<key>/
        cell.json           protocol, explainer, counts, accuracy, cost
        config.json         the resolved configuration of the run
        environment.json    versions, machine, threads
        examples.parquet    a row for each example: label, target, features, logits, cost
        attributions.parquet, scores.parquet, curves.parquet, answers.parquet
        checksums.json      SHA-256 of every other file
    <results>/.partial/<key>/<first>-<last>/    finished shards of a cell that is not finished
    <results>/.partial/<key>/metric-<name>/     what a metric that judges methods has found for it
    <results>/.damaged/     what was found damaged and set aside

Results are data: JSON and Parquet, nothing that runs.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assay.benchmark import whole_folder
from assay.benchmark.cell import Cell
from assay.benchmark.records import Record, Records
from assay.benchmark.tables import TABLES, described, join_tables, write_tables
from assay.benchmark.whole_folder import Damaged, staged, verify, write_json
from assay.benchmark.work import Work
from assay.errors import AssayError


def digest(content: Any) -> str:
    """A name for JSON content, the same for equal content: the first 16 digits of its SHA-256."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()[:16]


class Store:
    """The results folder."""

    def __init__(self, root: str | Path) -> None:
        """Name the folder; nothing is written yet.

        Raises:
            AssayError: a URL; results are kept in a local folder.
        """
        if "://" in str(root):
            raise AssayError(f"results={root} is a URL; results are kept in a local folder.")
        self.root = Path(root)

    def prepare(self) -> None:
        """Make the folder and clear what killed runs left half-written.

        Raises:
            AssayError: it cannot be written.
        """
        try:
            (self.root / ".partial").mkdir(parents=True, exist_ok=True)
            with staged(self.root / ".partial"):
                pass
        except OSError as error:
            raise AssayError(f"The results folder {str(self.root)!r} cannot be written: {error.strerror}.") from error
        whole_folder.clear_dead(self.root / ".partial")

    def cell_path(self, meta: Mapping[str, Any]) -> Path:
        """Where a cell stands."""
        protocol, name = meta["protocol"], meta["explainer"]["name"]
        return (
            self.root / slug(protocol["task"]["name"]) / slug(protocol["model"]["name"]) / f"{slug(name)}-{meta['key']}"
        )

    def cells(self) -> list[Cell]:
        """All finished cells, undamaged or not, by path.

        Raises:
            AssayError: there is no such folder, or a cell.json is damaged or of a newer schema.
        """
        if not self.root.is_dir():
            raise AssayError(f"There is no results folder {str(self.root)!r}.")
        found = []
        # Folders that begin with a dot hold work in progress, which comes and goes.
        tasks = [folder for folder in self.root.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
        for path in sorted(path for folder in tasks for path in folder.glob("*/*/cell.json")):
            try:
                found.append(Cell.read(path.parent))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise AssayError(f"{path} is damaged: {error}. Run the same command again to recompute it.") from error
        return found

    def checked_cells(self) -> list[Cell]:
        """All finished cells, each checked against its checksums.

        Raises:
            AssayError: there is no such folder, it has no finished cell, or one of them is damaged.
        """
        cells = self.cells()
        if not cells:
            raise AssayError(
                f"There are no finished cells in {str(self.root)!r}. Run `assay run results={self.root}` first."
            )
        for cell in cells:
            try:
                verify(cell.path)
            except Damaged as damage:
                raise cell.damaged(damage) from damage
        return cells

    def find(self, meta: Mapping[str, Any]) -> Cell | None:
        """The finished cell of this protocol and explainer.

        Raises:
            Damaged: it is there, but not what was written.
        """
        path = self.cell_path(meta)
        if not path.exists():
            return None
        verify(path)
        return Cell.read(path)

    def finish(
        self,
        meta: Mapping[str, Any],
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        bounds: Sequence[tuple[int, int]],
        judged_by: Sequence[str] = (),
    ) -> Cell:
        """Make a cell of its parts, in place of an older one if there is one, and drop them.

        Args:
            meta: the content of cell.json; `counts`, `cost` and `work` are added from the parts.
            config: the resolved configuration.
            environment: versions and machine.
            bounds: the first example of each shard and the one after its last.
            judged_by: the metrics whose judgement of the method has been kept.
        """
        path = self.cell_path(meta)
        parts = [self.shard_path(meta, *pair) for pair in bounds]
        parts += [self.judgement_path(meta, metric) for metric in judged_by]
        try:
            with self._whole(path) as temporary:
                for name in TABLES:
                    join_tables([part / f"{name}.parquet" for part in parts], temporary, name)
                meta = {**meta, **described(temporary), "work": _work(parts)}
                for name, content in (("cell", meta), ("config", config), ("environment", environment)):
                    write_json(temporary / f"{name}.json", content)
        except FileNotFoundError:
            # Another process that computed the same cell has finished it and dropped the shards.
            other = self.find(meta)
            if other is None:
                raise
            return other
        self.drop_shards(meta)
        return Cell(path, meta)

    def write(
        self, meta: Mapping[str, Any], config: Mapping[str, Any], environment: Mapping[str, Any], records: Records
    ) -> Cell:
        """Write a finished cell in one go."""
        self.write_shard(meta, 0, len(records.examples), records)
        return self.finish(meta, config, environment, [(0, len(records.examples))])

    def write_shard(
        self, meta: Mapping[str, Any], first: int, last: int, records: Records, work: Work | None = None
    ) -> None:
        """Keep the records of the examples from `first` up to but not including `last`, and what they took."""
        with self._whole(self.shard_path(meta, first, last)) as temporary:
            write_tables(temporary, records)
            write_json(temporary / "work.json", vars(work or Work()))

    def write_judgement(self, meta: Mapping[str, Any], metric: str, records: Records) -> None:
        """Keep what a metric that judges methods has found for all examples of a cell."""
        with self._whole(self.judgement_path(meta, metric)) as temporary:
            write_tables(temporary, records)

    def has_part(self, path: Path) -> bool:
        """Whether a finished shard or judgement is there, undamaged.

        Raises:
            Damaged: it is there, but not what was written.
        """
        if not path.exists():
            return False
        verify(path)
        return True

    def read_shards(self, meta: Mapping[str, Any], bounds: Sequence[tuple[int, int]], name: str) -> list[Record]:
        """The rows of one table of a cell that is not finished yet."""
        import pyarrow.parquet as pq

        paths = [self.shard_path(meta, *pair) / f"{name}.parquet" for pair in bounds]
        return [row for path in paths for row in pq.read_table(path).to_pylist()]

    def drop_shards(self, meta: Mapping[str, Any]) -> None:
        """Forget the finished shards of a cell."""
        shutil.rmtree(self._partial(meta), ignore_errors=True)

    def set_aside(self, path: Path) -> Path:
        """Move a damaged folder out of the way; where to."""
        target = self.root / ".damaged" / f"{path.name}-{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
        return target

    def shard_path(self, meta: Mapping[str, Any], first: int, last: int) -> Path:
        """Where a shard stands."""
        return self._partial(meta) / f"{first:06d}-{last:06d}"

    def judgement_path(self, meta: Mapping[str, Any], metric: str) -> Path:
        """Where stands what a metric that judges methods has found."""
        return self._partial(meta) / f"metric-{slug(metric)}"

    def _partial(self, meta: Mapping[str, Any]) -> Path:
        return self.root / ".partial" / str(meta["key"])

    @contextmanager
    def _whole(self, path: Path) -> Iterator[Path]:
        """A folder to write into that becomes `path` at the end, with checksums, or nothing if that is not reached."""
        with staged(self.root / ".partial") as temporary:
            yield temporary
            whole_folder.seal(temporary)
            whole_folder.put(temporary, path)


def slug(name: str) -> str:
    """A name that is safe as a folder's."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name).lstrip(".") or "_"


def _work(parts: Sequence[Path]) -> dict[str, float]:
    """What the shards took together; an older version kept no such file."""
    total = Work()
    for file in (part / "work.json" for part in parts):
        if file.exists():
            total.add(Work(**json.loads(file.read_text("utf-8"))))
    return vars(total)
