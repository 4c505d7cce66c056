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
    <results>/.partial/<key>-<digest>/...       the same of a cell that is computed anew; the digest is the old cell's
    <results>/.damaged/     what was found damaged and set aside

Results are data: JSON and Parquet, nothing that runs. At a URL each of these folders is one object, a ZIP, and the
local folder is a mirror of what was asked for. There are no locks and no times: what is whole is there, and equal parts
of two processes may stand for each other.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from assay.benchmark import whole_folder
from assay.benchmark.cell import Cell
from assay.benchmark.mirror import Mirror
from assay.benchmark.records import Record, Records
from assay.benchmark.tables import TABLES, described, join_tables, write_tables
from assay.benchmark.whole_folder import Damaged, staged, unwritable, verify, write_json
from assay.benchmark.work import Work
from assay.errors import AssayError


class Store:
    """The results folder, or the results at a URL.

    Attributes:
        root: the local folder; of results at a URL their mirror.
        name: what the user calls it.
    """

    def __init__(self, root: str | Path) -> None:
        """Name the folder or URL; nothing is written yet.

        Raises:
            AssayError: a URL that cannot be used.
        """
        self.name = str(root)
        self._mirror: Mirror | None = None
        protocol, separator, rest = self.name.partition("://")
        if separator and protocol not in ("file", "local"):
            self._mirror = Mirror(self.name)
            self.root = self._mirror.root
        else:
            self.root = Path(rest if separator else root)
        # By key, of the cells that are computed anew: the state of the one that is there already.
        self._replaced: dict[str, str] = {}

    def prepare(self) -> None:
        """Make the folder, see that it can be written, and clear what killed runs left half-written.

        Raises:
            AssayError: it cannot be written.
        """
        partial = self.root / ".partial"
        try:
            partial.mkdir(parents=True, exist_ok=True)
            with staged(partial) as probe:
                # A full disk may still have room for the name of a folder.
                (probe / "probe").write_bytes(bytes(4096))
        except OSError as error:
            raise unwritable(self.root, error) from error
        whole_folder.clear_dead(partial)
        if self._mirror is not None:
            self._mirror.remote.check()

    def fetch(self) -> Path:
        """The local folder with all finished cells in it; from a URL they are brought there.

        Raises:
            AssayError: the network, or an object that is damaged.
        """
        if self._mirror is not None:
            try:
                self._mirror.bring_all()
            except Damaged as damage:
                raise AssayError(f"{damage}. Run the same command again to recompute it.") from damage
            except OSError as error:
                raise unwritable(self.root, error) from error
        return self.root

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
        if not self.fetch().is_dir():
            raise AssayError(f"There is no results folder {self.name!r}.")
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
                f"There are no finished cells in {self.name!r}. Run `assay run results={self.name}` first."
            )
        for cell in cells:
            try:
                verify(cell.path)
            except Damaged as damage:
                raise cell.damaged(damage) from damage
        return cells

    def find(self, meta: Mapping[str, Any]) -> Cell | None:
        """The finished cell of this protocol and explainer; what is left of its parts is dropped.

        Raises:
            Damaged: it is there, but not what was written.
        """
        path = self.cell_path(meta)
        if not self._intact(path):
            return None
        self._drop_stale(meta)
        # Of ten thousand cells that are there, nobody may want to know more.
        return Cell(path)

    def start_anew(self, meta: Mapping[str, Any]) -> None:
        """Have a cell computed from its beginning although it is there; it stays until the new one is whole."""
        state = self._state(meta)
        if state is not None:
            self._replaced[str(meta["key"])] = state
        self.drop_shards(meta)

    def finished_meanwhile(self, meta: Mapping[str, Any]) -> bool:
        """Whether another process has finished a cell since it was missing here, or was started anew."""
        state = self._state(meta)
        return state is not None and state != self._replaced.get(str(meta["key"]))

    def finish(
        self,
        meta: Mapping[str, Any],
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        bounds: Sequence[tuple[int, int]],
        judged_by: Sequence[str] = (),
    ) -> Cell:
        """Make a cell of its parts, in place of an older one if there is one, and drop them.

        Where another process has finished the cell first, that one is the cell.

        Args:
            meta: the content of cell.json; `counts`, `cost` and `work` are added from the parts.
            config: the resolved configuration.
            environment: versions and machine.
            bounds: the first example of each shard and the one after its last.
            judged_by: the metrics whose judgement of the method has been kept.

        Raises:
            AssayError: a part is damaged; it is set aside. Or there is no room for the cell.
        """
        path = self.cell_path(meta)
        parts = [self.shard_path(meta, *pair) for pair in bounds]
        parts += [self.judgement_path(meta, metric) for metric in judged_by]
        try:
            for part in parts:
                self._check_part(part)
            # A power cut must not take what is dropped below and what stands in its place.
            with self._whole(path, str(meta["key"]) in self._replaced, lasting=len(parts) > 1) as temporary:
                for name in TABLES:
                    join_tables([part / f"{name}.parquet" for part in parts], temporary, name)
                meta = {**meta, **described(temporary), "work": _work(parts)}
                for name, content in (("cell", meta), ("config", config), ("environment", environment)):
                    write_json(temporary / f"{name}.json", content)
        except FileNotFoundError:
            if not self.finished_meanwhile(meta):
                raise
        self.drop_shards(meta)
        self._replaced.pop(str(meta["key"]), None)
        return Cell.read(path)

    def write(
        self, meta: Mapping[str, Any], config: Mapping[str, Any], environment: Mapping[str, Any], records: Records
    ) -> Cell:
        """Write a finished cell in one go."""
        self.start_anew(meta)
        self.write_shard(meta, 0, len(records.examples), records)
        return self.finish(meta, config, environment, [(0, len(records.examples))])

    def write_shard(
        self, meta: Mapping[str, Any], first: int, last: int, records: Records, work: Work | None = None
    ) -> None:
        """Keep the records of the examples from `first` up to but not including `last`, and what they took."""
        with self._part(meta, self.shard_path(meta, first, last)) as temporary:
            write_tables(temporary, records)
            write_json(temporary / "work.json", vars(work or Work()))

    def write_judgement(self, meta: Mapping[str, Any], metric: str, records: Records) -> None:
        """Keep what a metric that judges methods has found for all examples of a cell."""
        with self._part(meta, self.judgement_path(meta, metric)) as temporary:
            write_tables(temporary, records)

    def has_part(self, path: Path) -> bool:
        """Whether a finished shard or judgement is there, undamaged.

        Raises:
            Damaged: it is there, but not what was written.
        """
        return self._intact(path)

    def read_shards(
        self,
        meta: Mapping[str, Any],
        bounds: Sequence[tuple[int, int]],
        name: str,
        columns: Sequence[str] | None = None,
    ) -> list[Record]:
        """The rows of one table of a cell that is not finished yet.

        Args:
            meta: of the cell.
            bounds: the first example of each shard and the one after its last.
            name: of the table.
            columns: those that are wanted, where that saves memory; None for all.

        Raises:
            FileNotFoundError: one of the shards is not there; another process may have finished the cell.
        """
        import pyarrow.parquet as pq

        rows: list[Record] = []
        for path in (self.shard_path(meta, *pair) for pair in bounds):
            self._check_part(path)
            rows += pq.ParquetFile(path / f"{name}.parquet").read(columns).to_pylist()
        return rows

    def drop_shards(self, meta: Mapping[str, Any]) -> None:
        """Forget the finished shards of a cell."""
        self._drop(self._partial(meta))

    def set_aside(self, path: Path) -> str:
        """Move a damaged folder out of the way; where to."""
        if self._mirror is not None:
            return self._mirror.set_aside(path)
        target = self.root / ".damaged" / f"{path.name}-{uuid.uuid4().hex[:8]}"
        target.parent.mkdir(parents=True, exist_ok=True)
        # Another process may have found the same.
        with suppress(FileNotFoundError):
            path.rename(target)
        return str(target)

    def shard_path(self, meta: Mapping[str, Any], first: int, last: int) -> Path:
        """Where a shard stands."""
        return self._partial(meta) / f"{first:06d}-{last:06d}"

    def judgement_path(self, meta: Mapping[str, Any], metric: str) -> Path:
        """Where stands what a metric that judges methods has found."""
        return self._partial(meta) / f"metric-{slug(metric)}"

    def _partial(self, meta: Mapping[str, Any]) -> Path:
        key = str(meta["key"])
        # What replaces a cell is kept apart, so that what is left of a cell that was missing can be told from it.
        name = f"{key}-{self._replaced[key]}" if key in self._replaced else key
        return self.root / ".partial" / name

    def _state(self, meta: Mapping[str, Any]) -> str | None:
        """A digest of the finished cell that is there now; None where there is none."""
        path = self.cell_path(meta)
        try:
            if self._mirror is not None and not self._mirror.bring(path, ask=True):
                return None
            return hashlib.sha256((path / "checksums.json").read_bytes()).hexdigest()[:8]
        except (OSError, Damaged):
            return None

    def _intact(self, path: Path) -> bool:
        """Whether a folder is there; one that is damaged raises `Damaged`."""
        if self._mirror is not None:
            try:
                return self._mirror.bring(path)
            except OSError as error:
                raise unwritable(self.root, error) from error
        if not path.exists():
            return False
        try:
            verify(path)
        except Damaged:
            # Another process may have dropped it in this moment, or replaced it between one file and the next.
            if not path.exists():
                return False
            verify(path)
        return True

    def _check_part(self, part: Path) -> None:
        try:
            if not self._intact(part):
                raise FileNotFoundError(f"{part} is not there")
        except Damaged as damage:
            aside = self.set_aside(part)
            raise AssayError(f"{damage}. Set aside as {aside}. Run the same command again to recompute it.") from damage

    @cached_property
    def _begun(self) -> dict[str, list[str]]:
        """By key, the folders of parts that were there when this was first asked."""
        found: dict[str, list[str]] = {}
        if self._mirror is not None:
            names = [name.rpartition("/")[2] for name in self._mirror.remote.folders(".partial")]
        else:
            names = [path.name for path in (self.root / ".partial").glob("*")]
        for name in names:
            found.setdefault(name.partition("-")[0], []).append(name)
        return found

    def _drop_stale(self, meta: Mapping[str, Any]) -> None:
        """Drop what a process that was killed, or came late, has left of the parts of a finished cell."""
        for name in self._begun.get(str(meta["key"]), ()):
            if name != f"{meta['key']}-{self._state(meta)}":
                self._drop(self.root / ".partial" / name)

    def _drop(self, folder: Path) -> None:
        if self._mirror is not None:
            self._mirror.drop(folder)
        # At once, so that nobody takes what is left of it for damaged.
        gone = whole_folder.temporary_path(self.root / ".partial")
        with suppress(OSError):
            folder.rename(gone)
            shutil.rmtree(gone, ignore_errors=True)

    @contextmanager
    def _part(self, meta: Mapping[str, Any], path: Path) -> Iterator[Path]:
        """A part to write; nobody wants it any more if another process has finished the cell."""
        with self._whole(path, replace=False) as temporary:
            yield temporary
        if self.finished_meanwhile(meta):
            self.drop_shards(meta)

    @contextmanager
    def _whole(self, path: Path, replace: bool, lasting: bool = False) -> Iterator[Path]:
        """A folder to write into that becomes `path` at the end, with checksums, or nothing if that is not reached.

        Args:
            path: its place.
            replace: also what is there undamaged; else that stays.
            lasting: wait until the disk has it, which takes some milliseconds a file.

        Raises:
            AssayError: it cannot be written.
        """
        try:
            with staged(self.root / ".partial") as temporary:
                yield temporary
                whole_folder.seal(temporary)
                if lasting:
                    whole_folder.flush(temporary)
                entry = None if self._mirror is None else self._mirror.upload(temporary, path)
                whole_folder.put(temporary, path, replace)
            if self._mirror is not None:
                self._mirror.uploaded(path, entry)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise unwritable(self.root, error) from error


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
