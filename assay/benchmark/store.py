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

import errno
import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.benchmark.migrations import completed, migrated
from assay.benchmark.records import Record, Records
from assay.benchmark.work import Work
from assay.conversation import Cost
from assay.errors import AssayError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TABLES = tuple(table.name for table in fields(Records))


def digest(content: Any) -> str:
    """A name for JSON content, the same for equal content: the first 16 digits of its SHA-256."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()[:16]


class Damaged(Exception):
    """A stored folder that is not what was written; the message says which file and how."""


@dataclass(frozen=True)
class Cell:
    """A finished cell: one explainer under one protocol.

    Attributes:
        path: its folder.
        meta: the content of cell.json.
    """

    path: Path
    meta: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Cell:
        """The finished cell in a folder.

        Raises:
            AssayError: it was written by a newer version of Assay.
        """
        place = path / "cell.json"
        return cls(path, migrated(json.loads(place.read_text("utf-8")), place))

    @property
    def key(self) -> str:
        """The hash of protocol and explainer."""
        return str(self.meta["key"])

    @property
    def explainer(self) -> str:
        """The explainer's name."""
        return str(self.meta["explainer"]["name"])

    @property
    def protocol(self) -> Mapping[str, Any]:
        """All that must be equal for two numbers to be comparable."""
        protocol: Mapping[str, Any] = self.meta["protocol"]
        return protocol

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables `examples`, `attributions`, `scores`, `curves` and `answers`.

        Raises:
            AssayError: it is not what was written.
        """
        frame: pd.DataFrame = self.arrow(name).to_pandas()
        return frame

    def rows(self, name: str) -> list[Record]:
        """One of the tables, row by row.

        Raises:
            AssayError: it is not what was written.
        """
        rows: list[Record] = self.arrow(name).to_pylist()
        return rows

    def arrow(self, name: str, coded: Sequence[str] = ()) -> pa.Table:
        """One of the tables.

        Args:
            name: of the table.
            coded: columns of text that come as a dictionary and codes, where that saves time.

        Raises:
            AssayError: it is not what was written.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        content = self.content(f"{name}.parquet")
        try:
            file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=list(coded))
            return _typed(completed(file.read(use_threads=False), table_schema(name)), table_schema(name))
        except (pa.ArrowException, OSError) as error:
            told = str(error).splitlines()[0]
            raise self.damaged(Damaged(f"{self.path / name}.parquet is damaged: {told}")) from error

    def content(self, file: str) -> bytes:
        """One of the files, read once and compared with its checksum before anything is made of it.

        Raises:
            AssayError: it is missing or not what was written.
        """
        try:
            content = (self.path / file).read_bytes()
            if hashlib.sha256(content).hexdigest() != self._sums[file]:
                raise Damaged(f"{self.path / file} is not what was written")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise self.damaged(Damaged(f"{self.path} is damaged: {error}")) from error
        except Damaged as damage:
            raise self.damaged(damage) from damage
        return content

    def damaged(self, damage: Damaged) -> AssayError:
        """What to tell who reads a damaged cell."""
        command = self.meta.get("command", "assay run")
        return AssayError(f"{damage}. Run the same command again to recompute it: {command}")

    @cached_property
    def _sums(self) -> Mapping[str, str]:
        sums: Mapping[str, str] = json.loads((self.path / "checksums.json").read_text("utf-8"))
        return sums

    @cached_property
    def scores(self) -> pd.DataFrame:
        """A row for each example, perturbation and measure: `value`, and the `reason` where it is NaN.

        Of a method that is drawn several times `draws` has the value of each draw, and `value` is their mean.
        """
        return self.table("scores")

    @cached_property
    def score_rows(self) -> pa.Table:
        """As `scores`, with names as dictionaries and codes: what arrays are made of."""
        return self.arrow("scores", ["example", "perturbation", "metric"])


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
            probe = self._temporary()
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            raise AssayError(f"The results folder {str(self.root)!r} cannot be written: {error.strerror}.") from error
        for left in (self.root / ".partial").glob(f"temporary-{socket.gethostname()}-*"):
            process = int(left.name.split("-")[-2])
            if not alive(process):
                shutil.rmtree(left, ignore_errors=True)

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
                    _join([part / f"{name}.parquet" for part in parts], temporary, name)
                meta = {**meta, **_described(temporary), "work": _work(parts)}
                for name, content in (("cell", meta), ("config", config), ("environment", environment)):
                    _write_json(temporary / f"{name}.json", content)
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
            _write_tables(temporary, records)
            _write_json(temporary / "work.json", vars(work or Work()))

    def write_judgement(self, meta: Mapping[str, Any], metric: str, records: Records) -> None:
        """Keep what a metric that judges methods has found for all examples of a cell."""
        with self._whole(self.judgement_path(meta, metric)) as temporary:
            _write_tables(temporary, records)

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

    def _temporary(self) -> Path:
        name = f"temporary-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        return self.root / ".partial" / name

    @contextmanager
    def _whole(self, path: Path) -> Iterator[Path]:
        """A folder to write into that becomes `path` at the end, with checksums, or nothing if that is not reached."""
        temporary = self._temporary()
        temporary.mkdir(parents=True)
        try:
            yield temporary
            sums = {file.name: checksum(file) for file in sorted(temporary.iterdir())}
            _write_json(temporary / "checksums.json", sums)
            # Another process may write the same at the same time, or drop the folder that this goes into.
            while temporary.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    temporary.rename(path)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                    old = self._temporary()
                    with suppress(FileNotFoundError):
                        path.rename(old)
                    shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def verify(path: Path) -> None:
    """Check every file of a stored folder against its checksum.

    Raises:
        Damaged: a file is missing, truncated or changed.
    """
    try:
        sums = json.loads((path / "checksums.json").read_text("utf-8"))
        if not sums:
            raise Damaged(f"{path / 'checksums.json'} names no file")
        for name, expected in sums.items():
            if checksum(path / name) != expected:
                raise Damaged(f"{path / name} is not what was written")
    except (OSError, ValueError, AttributeError) as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def slug(name: str) -> str:
    """A name that is safe as a folder's."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name).lstrip(".") or "_"


def table_schema(name: str) -> pa.Schema:
    """The columns of one of the tables."""
    import pyarrow as pa

    text, number, count = pa.string(), pa.float64(), pa.int64()
    columns: dict[str, dict[str, pa.DataType]] = {
        "examples": {
            "example": text,
            "label": count,
            "predicted": count,
            "target": count,
            "features": pa.list_(text),
            "segments": pa.list_(count),
            "positions": pa.list_(count),
            "rationale": pa.list_(pa.bool_()),
            "highlights": pa.list_(pa.list_(number)),
            "logits": pa.list_(pa.float32()),
            "truncated": count,
            "forward_rows": number,
            "forward_tokens": number,
            "backward_rows": number,
            "backward_tokens": number,
            "seconds": number,
        },
        "attributions": {
            "example": text,
            "draw": count,
            "metric": text,
            "perturbation": text,
            "scores": pa.list_(number),
            "signed": pa.bool_(),
            "reason": text,
            "report": text,
        },
        "scores": {
            "example": text,
            "perturbation": text,
            "metric": text,
            "value": number,
            "reason": text,
            "draws": pa.list_(number),
        },
        "curves": {
            "example": text,
            "perturbation": text,
            "metric": text,
            "x": pa.list_(number),
            "y": pa.list_(number),
        },
        "answers": {
            "example": text,
            "perturbation": text,
            "n": count,
            "keep": pa.binary(),
            "logits": pa.list_(pa.float32()),
        },
    }
    return pa.schema(list(columns[name].items()))


def _typed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table whose columns have the types of a schema; a dictionary stands for the texts in it."""
    import pyarrow as pa

    for place, field in enumerate(schema):
        own = table.schema.field(place).type
        if own != field.type and not (pa.types.is_dictionary(own) and own.value_type == field.type):
            table = table.set_column(place, field, table.column(place).cast(field.type))
    return table


def _write_tables(folder: Path, records: Records) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in TABLES:
        table = pa.Table.from_pylist(getattr(records, name), schema=table_schema(name))
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")


def _join(shards: Sequence[Path], folder: Path, name: str) -> None:
    """One table of many, a shard at a time, so that memory does not grow with their number."""
    import pyarrow.parquet as pq

    with pq.ParquetWriter(folder / f"{name}.parquet", table_schema(name), compression="zstd") as writer:
        for shard in shards:
            writer.write_table(pq.read_table(shard, schema=table_schema(name)))


def _described(folder: Path) -> dict[str, Any]:
    """Counts and mean cost of an example, from the tables of a cell."""
    import pyarrow.parquet as pq

    costs = list(vars(Cost()))
    examples = pq.read_table(folder / "examples.parquet", columns=["truncated", *costs]).to_pandas()
    scores = pq.read_table(folder / "scores.parquet", columns=["metric", "reason"]).to_pandas()
    undefined = scores.loc[scores["reason"].notna(), "metric"].value_counts()
    return {
        "counts": {
            "examples": len(examples),
            "truncated_examples": int((examples["truncated"] > 0).sum()),
            "truncated_tokens": int(examples["truncated"].sum()),
            "undefined": {str(metric): int(count) for metric, count in undefined.items()},
        },
        "cost": {name: float(examples[name].mean()) for name in costs},
    }


def _work(parts: Sequence[Path]) -> dict[str, float]:
    """What the shards took together; an older version kept no such file."""
    total = Work()
    for file in (part / "work.json" for part in parts):
        if file.exists():
            total.add(Work(**json.loads(file.read_text("utf-8"))))
    return vars(total)


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, default=list) + "\n", "utf-8")


def checksum(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def alive(process: int) -> bool:
    """Whether a process of this machine is running."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
