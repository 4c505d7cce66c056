"""A stored folder as one object: an uncompressed ZIP of its files, which whoever reads it takes for hostile."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path

from assay.benchmark.tables import TABLES
from assay.benchmark.whole_folder import Damaged, verify

_JSON = ("cell.json", "config.json", "environment.json", "work.json", "checksums.json")
FILES = frozenset([*_JSON, *(f"{name}.parquet" for name in TABLES)])
"""Every name that a stored folder may hold."""

MOST_BYTES = 2**33
"""Of an object, and of each file in it."""
MOST_JSON_BYTES = 2**26


def pack(folder: Path, packed: Path) -> None:
    """Write the files of a folder into a ZIP; what they hold is compressed already."""
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            # Without times and rights, so that equal folders make equal objects.
            with file.open("rb") as source, archive.open(zipfile.ZipInfo(file.name), "w", force_zip64=True) as target:
                while piece := source.read(2**20):
                    target.write(piece)


def unpack(packed: Path, folder: Path) -> None:
    """Write the files of a ZIP that `pack` made into an empty folder, and check them against their checksums.

    Raises:
        Damaged: it is no such ZIP, it is cut short or changed, or it holds anything but plain files of the known names
            and of a bounded size.
    """
    try:
        with zipfile.ZipFile(packed) as archive:
            listed = archive.infolist()
            _check(listed, packed.stat().st_size)
            for one in listed:
                with archive.open(one) as source, (folder / one.filename).open("xb") as target:
                    while piece := source.read(2**20):
                        target.write(piece)
            names = {one.filename for one in listed}
        # What the list of checksums names is read, so that it may name nothing but what was unpacked.
        if set(json.loads((folder / "checksums.json").read_text("utf-8"))) != names - {"checksums.json"}:
            raise Damaged("its checksums are not those of its files")
    except (zipfile.BadZipFile, EOFError, FileNotFoundError, ValueError, TypeError, RuntimeError) as error:
        raise Damaged(f"it cannot be unpacked: {str(error)[:200]}") from error
    verify(folder)


def _check(listed: list[zipfile.ZipInfo], size: int) -> None:
    names = [one.filename for one in listed]
    unknown = sorted(set(names) - FILES)
    if unknown:
        raise Damaged(f"it holds {unknown[0][:80]!r}, which no result has")
    if len(set(names)) < len(names):
        raise Damaged("it holds a file twice")
    for one in listed:
        if one.compress_type != zipfile.ZIP_STORED or one.flag_bits & 1 or one.file_size != one.compress_size:
            raise Damaged(f"its {one.filename} is compressed or encrypted")
        if stat.S_IFMT(one.external_attr >> 16) not in (0, stat.S_IFREG):
            raise Damaged(f"its {one.filename} is no plain file")
        most = MOST_JSON_BYTES if one.filename.endswith(".json") else MOST_BYTES
        if one.file_size > most:
            raise Damaged(f"its {one.filename} has {one.file_size:,} bytes; at most {most:,} are read")
        if one.header_offset < 0:
            raise Damaged(f"its {one.filename} begins before the object does")
    if sum(one.file_size for one in listed) > size:
        raise Damaged("its files overlap")
