"""Nothing half-written is ever read, and whatever goes wrong with files, the same command ends well afterwards."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from assay.benchmark import tables, whole_folder
from assay.benchmark.store import Store
from assay.benchmark.whole_folder import Damaged, staged, verify
from assay.errors import AssayError
from tests.benchmark.cli import assay, save_model, save_task
from tests.benchmark.forked import Run
from tests.benchmark.test_store import left_over, meta, records

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "results")
    found.prepare()
    return found


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a small run is given, but for its results folder."""
    folder = tmp_path_factory.mktemp("setting")
    model, data = save_model(folder / "model"), save_task(folder / "data")
    return [
        *(f"model={model}", f"task.path={data}", "task=sst2", "explainer=leave_one_out", "metric=[comprehensiveness]"),
        *("tracker=none", "allow_low_accuracy=true", "shard_size=2"),
    ]


def whole_cells(results: Path | str) -> dict[str, list[float]]:
    """The scores of all cells, each checked; nothing else may be there."""
    store = Store(results)
    cells = store.checked_cells()
    assert left_over(store) == []
    return {cell.explainer: cell.scores["value"].tolist() for cell in cells}


def full(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


# Where the disk is full: in a table, in the notes beside it, in the checksums, or when the folder is moved.
@pytest.mark.parametrize("place", ["tables", "work", "checksums", "move"])
@pytest.mark.parametrize("what", ["shard", "cell"])
def test_a_full_disk_leaves_what_is_finished_and_nothing_half_written(store: Store, place: str, what: str) -> None:
    store.write_shard(meta(), 0, 4, records())
    targets = {
        "tables": ("pyarrow.parquet.write_table" if what == "shard" else "pyarrow.parquet.ParquetWriter.write_table"),
        "work": "assay.benchmark.store.write_json",
        "checksums": "assay.benchmark.whole_folder.write_json",
        "move": "pathlib.Path.rename",
    }
    write = {
        "shard": lambda: store.write_shard(meta(), 4, 8, records(4, 8)),
        "cell": lambda: store.finish(meta(), {}, {}, [(0, 4)]),
    }
    with patch(targets[place], full), pytest.raises(AssayError, match="No space is left") as told:
        write[what]()
    assert "Free some" in str(told.value)
    assert "are kept" in str(told.value)
    assert "run the same command again" in str(told.value)
    assert left_over(store) == [meta()["key"]]
    assert store.has_part(store.shard_path(meta(), 0, 4))
    assert not store.has_part(store.shard_path(meta(), 4, 8))
    store.write_shard(meta(), 4, 8, records(4, 8))
    assert store.finish(meta(), {}, {}, [(0, 4), (4, 8)]).meta["counts"]["examples"] == 8
    assert left_over(store) == []


def test_a_full_disk_is_found_before_anything_is_computed(store: Store) -> None:
    (store.root / ".damaged").mkdir()
    with patch.object(Path, "write_bytes", full), pytest.raises(AssayError, match=r"\.damaged") as told:
        store.prepare()
    assert "No space is left" in str(told.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if mount.returncode:
        pytest.skip("no file system can be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_run_on_a_real_full_disk_goes_on_when_there_is_room(small_disk: Path, setting: list[str]) -> None:
    ballast = small_disk / "ballast"
    results = small_disk / "results"
    # Room for some shards, and not for all.
    ballast.write_bytes(bytes(100 * 1024))
    ended = assay("run", *setting, f"results={results}")
    assert ended.code == 2
    assert "No space is left" in ended.err
    assert "Traceback" not in ended.err
    kept = list(results.glob(".partial/*/*"))
    assert kept
    for part in kept:
        verify(part)
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    ended = assay("run", *setting, f"results={results}")
    assert ended.code == 0, ended.err
    assert sorted(whole_cells(results)) == ["leave_one_out", "oracle", "random"]


def test_a_store_that_can_only_be_read_is_refused_for_a_run_and_read_all_the_same(
    tmp_path: Path, setting: list[str]
) -> None:
    results = tmp_path / "results"
    assert assay("run", *setting, f"results={results}").code == 0
    bound = subprocess.run(["mount", "--bind", str(results), str(results)], capture_output=True)
    if bound.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(results)], check=True)
        for more in ([], ["-m"]):
            ended = assay("run", *more, *setting, f"results={results}", "seed=1")
            assert ended.code == 2
            assert "cannot be written" in ended.err
            assert "Traceback" not in ended.err
        shown = assay("leaderboard", "show", str(results))
        assert shown.code == 0
        assert "leave_one_out" in shown.out
    finally:
        subprocess.run(["umount", "-l", str(results)], check=True)


@pytest.mark.parametrize("harm", ["a bit flipped", "cut short"])
def test_a_damaged_cell_and_a_damaged_shard_are_set_aside_and_computed_again(
    tmp_path: Path, setting: list[str], harm: str
) -> None:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content if harm == "a bit flipped" else content[: len(content) // 2])

    results = tmp_path / "results"
    assert assay("run", *setting, f"results={results}").code == 0
    before = whole_cells(results)
    damage(next(results.glob("sst2/*/leave_one_out-*/scores.parquet")))
    write = Store.write_shard

    def interrupted(self: Store, meta: Any, first: int, *more: Any) -> None:
        if first == 4:
            raise KeyboardInterrupt
        write(self, meta, first, *more)

    with patch.object(Store, "write_shard", interrupted):
        ended = assay("run", *setting, f"results={results}")
    assert ended.code == 130
    assert "scores.parquet is not what was written. Set aside" in ended.out
    damage(next(results.glob(".partial/*/000002-000004/curves.parquet")))
    ended = assay("run", *setting, f"results={results}")
    assert ended.code == 0
    assert "curves.parquet is not what was written. Set aside" in ended.out
    assert whole_cells(results) == before
    assert len(list((results / ".damaged").iterdir())) == 2


def test_a_shard_that_is_damaged_before_its_cell_is_made_is_set_aside(store: Store) -> None:
    store.write_shard(meta(), 0, 4, records())
    place = store.shard_path(meta(), 0, 4) / "scores.parquet"
    place.write_bytes(place.read_bytes()[:-7])
    with pytest.raises(AssayError, match=r"scores\.parquet is not what was written.*Run the same command again"):
        store.finish(meta(), {}, {}, [(0, 4)])
    assert not store.has_part(store.shard_path(meta(), 0, 4))
    assert store.find(meta()) is None


def test_a_clock_that_is_set_back_changes_nothing(tmp_path: Path, setting: list[str]) -> None:
    """Every reading of the clock is an hour before the last one, and files come from the future."""
    results = tmp_path / "results"
    assert assay("run", *setting, "seed=0", f"results={results}").code == 0
    before = whole_cells(results)
    for path in results.rglob("*"):
        os.utime(path, (2**33, 2**33))
    damaged = next(results.glob("sst2/*/leave_one_out-*/scores.parquet"))
    stamp = damaged.stat()
    content = bytearray(damaged.read_bytes())
    content[100] ^= 1
    # In place, with the size and the times of before: what only looked at those would not see it.
    with damaged.open("r+b") as file:
        file.write(content)
    os.utime(damaged, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    now = [time.time()]

    def back() -> float:
        now[0] -= 3600
        return now[0]

    with patch("time.time", back), patch("time.time_ns", lambda: int(back() * 1e9)):
        ended = assay("run", *setting, "seed=0", f"results={results}")
    assert ended.code == 0, ended.err
    assert "scores.parquet is not what was written" in ended.out
    assert whole_cells(results) == before


def test_a_part_that_comes_after_its_cell_is_finished_is_dropped(store: Store) -> None:
    late = Store(store.root)
    assert late.find(meta()) is None
    for first in (0, 4):
        store.write_shard(meta(), first, first + 4, records(first, first + 4))
    cell = store.finish(meta(), {}, {}, [(0, 4), (4, 8)])
    before = cell.path.stat().st_ino
    assert late.finished_meanwhile(meta())
    late.write_shard(meta(), 0, 4, records())
    late.write_judgement(meta(), "roar", records())
    assert left_over(store) == []
    assert late.finish(meta(), {}, {}, [(0, 4), (4, 8)]).meta == cell.meta
    assert cell.path.stat().st_ino == before
    assert left_over(store) == []


def test_what_a_killed_process_left_of_a_finished_cell_is_cleared_away(store: Store) -> None:
    store.write_shard(meta(), 0, 4, records())
    left = store.shard_path(meta(), 0, 4)
    store.finish(meta(), {}, {}, [(0, 4)])
    other = meta(seed=7)
    store.write_shard(other, 0, 2, records(0, 2))
    with store._whole(left, False) as temporary:
        tables.write_tables(temporary, records())
    fresh = Store(store.root)
    fresh.prepare()
    assert fresh.find(meta()) is not None
    assert left_over(store) == [other["key"]]


def test_an_older_cell_stays_until_the_new_one_is_whole_and_its_parts_are_told_apart(store: Store) -> None:
    store.write(meta(), {}, {}, records(value=0.25))
    anew, beside = Store(store.root), Store(store.root)
    anew.start_anew(meta())
    assert not anew.finished_meanwhile(meta())
    anew.write_shard(meta(), 0, 2, records(0, 2, value=0.75))
    # A run that takes what is there has no use for parts, and does not take these for its own.
    found = beside.find(meta())
    assert found is not None
    assert found.scores["value"].tolist() == [0.25] * 4
    anew.write_shard(meta(), 2, 4, records(2, 4, value=0.75))
    assert anew.finish(meta(), {}, {}, [(0, 2), (2, 4)]).scores["value"].tolist() == [0.75] * 4
    assert left_over(store) == []


def test_what_is_replaced_while_it_is_checked_is_not_damaged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(meta(), {}, {}, records(value=0.25))

    genuine = whole_folder.checksum

    def replace_first(path: Path) -> str:
        monkeypatch.setattr(whole_folder, "checksum", genuine)
        Store(store.root).write(meta(), {}, {}, records(value=0.75))
        return genuine(path)

    monkeypatch.setattr(whole_folder, "checksum", replace_first)
    found = store.find(meta())
    assert found is not None
    assert found.scores["value"].tolist() == [0.75] * 4
    assert not (store.root / ".damaged").exists()


def test_a_part_whose_folder_is_removed_before_it_is_in_place_is_not_taken_for_written(store: Store) -> None:
    with staged(store.root / ".partial") as temporary:
        shutil.rmtree(temporary)
        with pytest.raises(FileNotFoundError):
            whole_folder.put(temporary, store.root / "cell")


def test_a_process_of_another_machine_with_the_same_name_is_not_taken_for_dead(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Containers on one host may have one name, and each its own numbers of processes."""
    monkeypatch.setattr(os, "getpid", lambda: 99999999)
    theirs = whole_folder.temporary_path(store.root / ".partial")
    theirs.mkdir()
    namespace = os.readlink("/proc/self/ns/pid") if Path("/proc/self/ns/pid").exists() else pytest.skip("no namespaces")
    with monkeypatch.context() as here:
        here.setattr(os, "readlink", lambda _: f"{namespace} of another container")
        whole_folder._machine.cache_clear()
        Store(store.root).prepare()
        assert theirs.exists()
    whole_folder._machine.cache_clear()
    Store(store.root).prepare()
    assert not theirs.exists()


def test_a_cell_is_on_the_disk_before_its_shards_are_dropped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut that came in between would take hours of work; of a single shard only as much as any other."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("what is flushed cannot be seen here")
    flushed: list[tuple[str, bool]] = []

    def fsync(number: int) -> None:
        file = Path(os.readlink(f"/proc/self/fd/{number}"))
        flushed.append((file.name, store.shard_path(meta(), 0, 2).exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    for first in (0, 2):
        store.write_shard(meta(), first, first + 2, records(first, first + 2))
    assert flushed == []
    cell = store.finish(meta(), {}, {}, [(0, 2), (2, 4)])
    assert sorted(flushed) == [(file.name, True) for file in sorted(cell.path.iterdir())]
    flushed.clear()
    store.write(meta(seed=7), {}, {}, records())
    assert flushed == []


@pytest.mark.parametrize("name", ["../cell.json", "/dev/zero", "nested/cell.json"])
def test_checksums_lead_nowhere_else(store: Store, name: str) -> None:
    cell = store.write(meta(), {}, {}, records())
    (cell.path / "checksums.json").write_text(json.dumps({name: "0"}))
    with pytest.raises(Damaged, match="no file of that folder"):
        store.find(meta())


def test_two_processes_at_once_end_with_the_same_cells(tmp_path: Path, setting: list[str]) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    assert assay("run", *setting, f"results={alone}").code == 0
    both = [Run(["run", *setting, f"results={shared}"], tmp_path / name, shared) for name in ("one", "two")]
    for run in both:
        assert run.wait() == 0, run.said
    assert whole_cells(shared) == whole_cells(alone)


def test_writers_of_equal_parts_leave_one_whole_part_that_readers_never_miss(store: Store) -> None:
    """Two processes write the same parts over and over, while this one reads them."""
    store.write_shard(meta(), 0, 4, records())
    program = (
        "import sys; from tests.benchmark.test_store import meta, records; from assay.benchmark.store import Store\n"
        "store = Store(sys.argv[1])\n"
        "for _ in range(40): store.write_shard(meta(), 0, 4, records())\n"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(store.root)], cwd=ROOT) for _ in range(2)]
    looks = 0
    while any(writer.poll() is None for writer in writers):
        assert store.has_part(store.shard_path(meta(), 0, 4))
        looks += 1
    assert looks > 10
    assert [writer.returncode for writer in writers] == [0, 0]
    assert left_over(store) == [meta()["key"]]
