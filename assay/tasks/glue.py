"""Tasks of GLUE (Wang et al. 2018) from the Hugging Face hub or from local Parquet files with GLUE's column names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.errors import AssayError, near_matches
from assay.example import Example
from assay.hub import asking
from assay.tasks.base import Source

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "nyu-mll/glue"
LOCAL_FILES = (
    "For local files name a folder that holds <task>/<split>.parquet by task.path (or path=) "
    "or by the environment variable ASSAY_DATA."
)


# The splits that were read last, by what they were read from: the jobs of a sweep often share them.
_kept: dict[tuple[Any, ...], list[Example]] = {}
_MOST_KEPT = 2  # the split that is explained, and the train split


class Glue(Source):
    """A task whose rows hold one text or two, a label and perhaps an index.

    Args:
        name: the task's name: GLUE's configuration on the hub and the folder of the local files.
        columns: the columns of the one text or of the two texts.
        labels: the names of the classes, in the order of GLUE's label numbers.
        path: folder of `<name>/<split>.parquet`. None: the environment variable `ASSAY_DATA`, else the hub.
        split: the split's name.
        size: how many examples to draw, stratified by label; None for all.
        seed: the seed of that draw.
        aliases: other names of splits, where the hub's name differs (MNLI's validation is `validation_matched`).
    """

    def __init__(
        self,
        name: str,
        columns: Sequence[str],
        labels: Sequence[str],
        path: str | None = None,
        split: str = "validation",
        size: int | None = None,
        seed: int = 0,
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, split, size, seed)
        self.columns = tuple(columns)
        if len(self.columns) not in (1, 2):
            raise AssayError(f"Task {name!r} names the text columns {list(columns)}; one or two are possible.")
        self.labels = tuple(labels)
        self.aliases = dict(aliases or {})
        folder = path or os.environ.get("ASSAY_DATA")
        self.file = self._find(Path(folder).expanduser()) if folder else None

    def read(self) -> list[Example]:
        """The rows as examples with ids such as `sst2/validation/17`, the number being `idx` or else the row."""
        key = self._state()
        if key not in _kept:
            rows = self._rows()
            for oldest in list(_kept)[: max(0, len(_kept) + 1 - _MOST_KEPT)]:
                del _kept[oldest]
            _kept[key] = rows
        return list(_kept[key])

    def _state(self) -> tuple[Any, ...]:
        """What the examples hang on, the state of a local file included."""
        written: tuple[Any, ...] = ()
        if self.file is not None:
            # Some tasks have several files in a folder, which a subclass reads.
            files = sorted(file for file in self.file.parent.iterdir() if file.is_file())
            written = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files)
        aliases = tuple(self.aliases.items())
        return type(self), self.name, self.split, self.columns, self.labels, aliases, self.file, written

    def _rows(self) -> list[Example]:
        data = self._hub() if self.file is None else self._local(self.file)
        origin = str(self.file or f"{HUB} on the hub, configuration {self.name!r}, split {self.split!r},")
        self._check_columns(data.column_names, origin)
        if len(data) == 0:
            raise AssayError(f"{origin} holds no rows.")
        labels = data["label"][:]
        self._check_labels(labels, origin)
        texts = list(zip(*(self._texts(data[column][:], column, origin) for column in self.columns), strict=True))
        numbers = data["idx"][:] if "idx" in data.column_names else range(len(data))
        repeated = [number for number, count in Counter(numbers).items() if count > 1]
        if repeated:
            raise AssayError(
                f"Column 'idx' of {origin} holds {repeated[0]!r} more than once; it names a row, so it must be unique."
            )
        try:
            return [
                Example(f"{self.name}/{self.split}/{number}", text, label, **known)
                for number, text, label, known in zip(numbers, texts, labels, self.known(data, origin), strict=True)
            ]
        except ValueError as error:
            raise AssayError(f"{origin}: {error}") from error

    def known(self, data: Dataset, origin: str) -> Iterable[Mapping[str, Any]]:
        """What is known of the words of each row, as arguments of `Example`; nothing, unless a subclass knows more.

        Raises:
            AssayError: a column is not what it should be.
        """
        return repeat({}, len(data))

    def _find(self, folder: Path) -> Path:
        """The local file of the split; its columns are checked without reading its rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        candidates = [
            folder / self.name / f"{split}.parquet" for split in (self.split, self.aliases.get(self.split)) if split
        ]
        found = next((file for file in candidates if file.is_file()), None)
        if found is None:
            raise AssayError(f"Task {self.name!r}: there is no {candidates[0]}. {self._what_is_there(folder)}")
        try:
            schema = pq.read_schema(found)
        except (pa.ArrowInvalid, OSError) as error:
            raise AssayError(f"{found} cannot be read as Parquet: {error}") from error
        self._check_columns(schema.names, str(found))
        return found

    def _what_is_there(self, folder: Path) -> str:
        """What a folder of local files offers in place of the file that was looked for."""
        if not folder.is_dir():
            return f"The folder {folder} does not exist. {LOCAL_FILES}"
        place = folder / self.name
        if not place.is_dir():
            there = sorted(file.parent.name for file in folder.glob("*/*.parquet"))
            tasks = ", ".join(dict.fromkeys(there)) or "no tasks"
            return f"{folder} has no folder {self.name!r}; it has {tasks}. {LOCAL_FILES}"
        splits = [file.stem for file in place.glob("*.parquet")]
        return f"{place} has the splits {', '.join(sorted(splits)) or 'none'}. {near_matches(self.split, splits)}"

    def _local(self, file: Path) -> Dataset:
        # A table in memory, because `datasets.load_dataset` would leave a converted copy in the user's cache.
        import pyarrow.parquet as pq
        from datasets import Dataset

        # Nothing is looked up by its fingerprint, which takes longer to find than the rows to read.
        return Dataset(pq.read_table(file), fingerprint=file.stem)

    def _hub(self) -> Dataset:
        from datasets import load_dataset
        from datasets.exceptions import DatasetsError

        split = self.aliases.get(self.split, self.split)
        try:
            with asking(HUB, LOCAL_FILES):
                return load_dataset(HUB, self.name, split=split)
        except ValueError as error:
            raise AssayError(f"{HUB} on the hub, configuration {self.name!r}: {error}") from error
        except (OSError, RuntimeError, DatasetsError) as error:
            raise AssayError(
                f"Cannot fetch {HUB}, configuration {self.name!r}, split {split!r}, from the Hugging Face hub: "
                f"{type(error).__name__}: {error} {LOCAL_FILES}"
            ) from error

    def _check_columns(self, found: Sequence[str], origin: str) -> None:
        missing = [column for column in (*self.columns, "label") if column not in found]
        if missing:
            raise AssayError(
                f"{origin} has no column {missing[0]!r}, which task {self.name!r} needs. It has {', '.join(found)}."
            )

    def _check_labels(self, labels: Sequence[Any], origin: str) -> None:
        if all(label is None or label == -1 for label in labels):
            raise AssayError(
                f"{origin} has no labels: all are -1 or null, as in GLUE's test splits. Use split train or validation."
            )
        for row, label in enumerate(labels):
            if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < len(self.labels):
                names = ", ".join(f"{number} {name}" for number, name in enumerate(self.labels))
                raise AssayError(f"Row {row} of {origin} has the label {label!r}; task {self.name!r} has {names}.")

    def _texts(self, column: Sequence[Any], name: str, origin: str) -> Sequence[str]:
        for row, text in enumerate(column):
            if not isinstance(text, str):
                raise AssayError(f"Row {row} of {origin} has {text!r} in column {name!r}, which is not a text.")
        return column
