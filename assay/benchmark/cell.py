"""A finished cell: one explainer under one protocol, as it is stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.benchmark.migrations import completed, migrated
from assay.benchmark.records import Record
from assay.benchmark.tables import table_schema, typed
from assay.benchmark.whole_folder import Damaged
from assay.errors import AssayError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Cell:
    """A finished cell: one explainer under one protocol.

    Attributes:
        path: its folder.
    """

    def __init__(self, path: Path, meta: Mapping[str, Any] | None = None) -> None:
        """Name a cell.

        Args:
            path: its folder.
            meta: the content of cell.json; None to have it read when it is asked for.
        """
        self.path = path
        if meta is not None:
            self.meta = meta

    @classmethod
    def read(cls, path: Path) -> Cell:
        """The finished cell in a folder, its cell.json read at once.

        Raises:
            AssayError: it was written by a newer version of Assay.
        """
        place = path / "cell.json"
        return cls(path, migrated(json.loads(place.read_text("utf-8")), place))

    @cached_property
    def meta(self) -> Mapping[str, Any]:
        """The content of cell.json.

        Raises:
            AssayError: it was written by a newer version of Assay.
        """
        return Cell.read(self.path).meta

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
            return typed(completed(file.read(use_threads=False), table_schema(name)), table_schema(name))
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
