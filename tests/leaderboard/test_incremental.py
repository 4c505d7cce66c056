"""Building again: what has not changed is not computed, what has been touched is, and a killed build leaves no mark."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from assay.errors import AssayError
from assay.leaderboard import build as module
from assay.leaderboard import placing, protocol_files
from assay.leaderboard.build import build
from tests.leaderboard.synthetic import METHODS, protocol, write_cell

ABOUTS = [protocol("sst2", examples=7), protocol("sst2", examples=6, seed=1), protocol("mnli", examples=6)]
NAMES = ("gradient", "lime", "oracle", "random")


def make(root: Path) -> Path:
    for about in ABOUTS:
        for name in NAMES:
            write_cell(root, name, about, METHODS[name], signed=name != "gradient")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Results and their site; nothing in here may change them."""
    root = make(tmp_path_factory.mktemp("results"))
    return root, build(root, tmp_path_factory.mktemp("out") / "site").parent


@pytest.fixture
def copy(made: tuple[Path, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Results and their site, to be changed."""
    return tuple(Path(shutil.copytree(one, tmp_path / name)) for one, name in zip(made, ("r", "s"), strict=True))  # type: ignore[return-value]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that are computed, as they are."""
    found: list[str] = []
    plain = protocol_files.make_protocol

    def watched(group: module.Group, folders: dict[str, str], target: Path) -> None:
        found.append(group.folder)
        plain(group, folders, target)

    monkeypatch.setattr(protocol_files, "make_protocol", watched)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def times(folder: Path) -> dict[str, tuple[int, int]]:
    stats = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*") if path.is_file()}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def test_building_again_touches_nothing(copy: tuple[Path, Path], computed: list[str]) -> None:
    results, site = copy
    before = times(site)
    build(results, site)
    assert times(site) == before
    assert computed == []


def test_one_new_cell_is_one_protocol_and_the_site_is_that_of_a_fresh_build(
    copy: tuple[Path, Path], computed: list[str], tmp_path: Path
) -> None:
    results, site = copy
    before = times(site)
    write_cell(results, "kernel_shap", ABOUTS[2], 0.8)
    build(results, site)
    assert [folder.split("-")[0] for folder in computed] == ["mnli"]
    after = times(site)
    assert all(after[name] == stat for name, stat in before.items() if name.startswith("protocols/sst2"))
    assert contents(build(results, tmp_path / "fresh").parent) == contents(site)
    assert (site / "explainers" / "kernel_shap.html").exists()


def test_a_cell_that_was_computed_again_is_noticed(copy: tuple[Path, Path], computed: list[str]) -> None:
    results, site = copy
    write_cell(results, "lime", ABOUTS[2], 0.1)
    build(results, site)
    assert len(computed) == 1


def test_what_is_gone_goes_and_what_is_foreign_stays(copy: tuple[Path, Path], tmp_path: Path) -> None:
    results, site = copy
    shutil.rmtree(results / "mnli")
    (site / "protocols" / "mine").mkdir()
    (site / "protocols" / "mine" / "summary.json").write_text("{}")
    (site / "notes.txt").write_text("mine")
    build(results, site)
    assert sorted(path.name.split("-")[0] for path in (site / "protocols").iterdir()) == ["mine", "sst2", "sst2"]
    assert (site / "notes.txt").read_text() == "mine"
    shutil.rmtree(site / "protocols" / "mine")
    (site / "notes.txt").unlink()
    assert contents(build(results, tmp_path / "fresh").parent) == contents(site)


def edit_fingerprint(folder: Path) -> None:
    summary = json.loads((folder / "summary.json").read_text())
    summary["hidings"][0]["entries"][0]["name"] = "the best of all"
    (folder / "summary.json").write_text(json.dumps(summary))


def wrong_shape(folder: Path) -> None:
    (folder / "summary.json").write_text('{"fingerprint": [1, 2], "hidings": "none"}')


def deep(folder: Path) -> None:
    (folder / "summary.json").write_text("[" * 100_000 + "]" * 100_000)


def no_sums(folder: Path) -> None:
    (folder / "checksums.json").write_text("[]")


def leads_out(folder: Path) -> None:
    sums = json.loads((folder / "checksums.json").read_text())
    (folder / "checksums.json").write_text(json.dumps({**sums, "../../index.html": sums["index.html"]}))


def link(folder: Path) -> None:
    shutil.move(folder / "scores.csv", folder.parent / "elsewhere.csv")
    (folder / "scores.csv").symlink_to(folder.parent / "elsewhere.csv")


def missing(folder: Path) -> None:
    (folder / "examples" / "0.js").unlink()


def touched(folder: Path) -> None:
    (folder / "index.html").write_text("<p>We are first.")


def is_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("")


@pytest.mark.parametrize(
    "meddle", [edit_fingerprint, wrong_shape, deep, no_sums, leads_out, link, missing, touched, is_a_file]
)
def test_a_folder_that_is_not_what_was_made_is_made_again(
    meddle: object, copy: tuple[Path, Path], made: tuple[Path, Path], computed: list[str]
) -> None:
    results, site = copy
    (folder,) = (site / "protocols").glob("mnli*")
    assert callable(meddle)
    meddle(folder)
    build(results, site)
    assert computed == [folder.name]
    (site / "protocols" / "elsewhere.csv").unlink(missing_ok=True)
    assert contents(site) == contents(made[1])


def test_two_processes_give_the_same_bytes_as_one(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CELLS_A_WORKER", 1)
    results, site = made
    assert contents(build(results, tmp_path / "site", workers=2).parent) == contents(site)


@pytest.mark.parametrize(
    ("table", "workers"), [("scores", 1), ("curves", 1), ("attributions", 1), ("examples", 1), ("curves", 2)]
)
def test_a_damaged_file_is_named_whoever_reads_it_and_nothing_is_written(
    table: str, workers: int, copy: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "CELLS_A_WORKER", 1)
    results, site = copy
    (cell,) = (results / "mnli" / "small-bert").glob("gradient-*")
    content = (cell / f"{table}.parquet").read_bytes()
    (cell / f"{table}.parquet").write_bytes(content[:-1] + b"!")
    # The protocol is computed again because a cell is new.
    write_cell(results, "kernel_shap", ABOUTS[2], 0.8)
    before = contents(site)
    with pytest.raises(AssayError, match=rf"{cell.name}.*{table}.parquet is not what was written.*assay run"):
        build(results, site, workers=workers)
    assert contents(site) == before
    assert list(site.glob(".staged*")) == []
    with pytest.raises(AssayError, match="is not what was written"):
        build(results, tmp_path / "new", workers=workers)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(("file", "content"), [("cell.json", "{"), ("cell.json", "[]"), ("checksums.json", "3")])
def test_a_cell_that_cannot_be_listed_is_named(file: str, content: str, copy: tuple[Path, Path]) -> None:
    results, site = copy
    (cell,) = (results / "mnli" / "small-bert").glob("gradient-*")
    (cell / file).write_text(content)
    with pytest.raises(AssayError, match=cell.name):
        build(results, site)


KILLED = """
import os, sys
from pathlib import Path
from assay.leaderboard import build as module
from assay.leaderboard import placing

WHEN = sys.argv[3]
plain, moved = Path.rename, []

def rename(path, target):
    moved.append(path)
    if len(moved) == int(WHEN):
        os._exit(9)
    return plain(path, target)

if WHEN != "0":
    Path.rename = rename
else:
    module._make_site = lambda *_: os._exit(9)
module.build(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("when", [0, 1, 5])
def test_a_build_that_is_killed_leaves_the_old_site_or_is_mended_by_the_next(
    when: int, copy: tuple[Path, Path], tmp_path: Path
) -> None:
    results, site = copy
    write_cell(results, "kernel_shap", ABOUTS[2], 0.8)
    before = contents(site)
    killed = subprocess.run([sys.executable, "-c", KILLED, results, site, str(when)], check=False, timeout=120)
    assert killed.returncode == 9
    left = {name: content for name, content in contents(site).items() if not name.startswith(".staged")}
    if when <= 1:
        assert left == before
    # Before anything else the next build puts back what had been taken out of the way.
    with placing.staging(site):
        assert set(before) <= set(contents(site))
    build(results, site)
    assert contents(site) == contents(build(results, tmp_path / "fresh").parent)


def test_what_a_living_process_is_making_is_left_alone(copy: tuple[Path, Path]) -> None:
    results, site = copy
    with placing.staging(site) as staged:
        build(results, site)
        assert staged.is_dir()


def test_an_interruption_ends_all_processes_and_leaves_nothing(copy: tuple[Path, Path]) -> None:
    results, site = copy
    before = contents(site)
    for name in NAMES:
        for about in ABOUTS:
            write_cell(results, name, about, METHODS[name] / 2, signed=name != "gradient")
    program = (
        "import sys, time; from pathlib import Path; from assay.leaderboard import build as module\n"
        "if __name__ == '__main__':\n"
        "    module._make_site = lambda *_: time.sleep(60)\n"  # on a busy machine the protocols may be done by then
        "    module.CELLS_A_WORKER = 1; module.build(Path(sys.argv[1]), Path(sys.argv[2]), workers=2)\n"
    )
    script = results.parent / "program.py"
    script.write_text(program)
    # Who starts tests in the background may have the signal ignored.
    before_it = signal.signal(signal.SIGINT, signal.default_int_handler)
    running = subprocess.Popen([sys.executable, script, results, site], stderr=subprocess.PIPE, start_new_session=True)
    signal.signal(signal.SIGINT, before_it)
    while running.poll() is None and not list(site.glob(".staged-*/protocols/*")):
        time.sleep(0.005)
    os.killpg(running.pid, 2)
    _, told = running.communicate(timeout=60)
    assert running.returncode != 0
    assert told.count(b"KeyboardInterrupt") == 1
    assert contents(site) == before
