"""Results at a URL: an S3 server on the loopback, and a file system in memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer

from assay.benchmark import packed_folder, remote_store
from assay.benchmark.packed_folder import pack, unpack
from assay.benchmark.remote_store import Remote
from assay.benchmark.store import Store
from assay.benchmark.whole_folder import Damaged, seal
from assay.errors import AssayError
from tests.benchmark.cli import assay, save_model, save_task
from tests.benchmark.forked import Run
from tests.benchmark.test_store import meta, records

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A client of an S3 server of its own, with a bucket."""
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            environment.setenv(name, value)
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        yield client
    running.stop()


@pytest.fixture(autouse=True)
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ASSAY_MIRROR", str(tmp_path / "mirror"))
    remote_store.remote_at.cache_clear()
    fsspec.filesystem("memory").store.clear()
    return tmp_path / "mirror"


@pytest.fixture(params=["s3", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "memory":
        return "memory://results"
    request.getfixturevalue("server")
    return f"s3://bucket/{tmp_path.name}/results"


def other_machine(url: str, monkeypatch: pytest.MonkeyPatch, place: Path) -> Store:
    """The same results with another mirror."""
    monkeypatch.setenv("ASSAY_MIRROR", str(place))
    return Store(url)


def objects(url: str) -> list[str]:
    return sorted(Remote(url).entries(""))


def test_what_one_machine_writes_another_reads(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Store(url)
    here.prepare()
    there = other_machine(url, monkeypatch, tmp_path / "there")
    assert there.root != here.root
    assert not there.has_part(there.shard_path(meta(), 0, 2))
    here.write_shard(meta(), 0, 2, records(0, 2))
    assert there.has_part(there.shard_path(meta(), 0, 2))
    there.write_shard(meta(), 2, 4, records(2, 4))
    assert there.find(meta()) is None
    cell = here.finish(meta(), {}, {}, [(0, 2), (2, 4)])
    assert objects(url) == [f"{cell.path.relative_to(here.root).as_posix()}.zip"]
    assert there.finished_meanwhile(meta())
    found = there.find(meta())
    assert found is not None
    assert found.meta == cell.meta
    assert found.table("examples")["example"].tolist() == [f"example {number}" for number in range(4)]
    assert [one.meta for one in other_machine(url, monkeypatch, tmp_path / "third").checked_cells()] == [cell.meta]


def test_a_late_part_and_a_late_cell_leave_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Store(url)
    late = other_machine(url, monkeypatch, tmp_path / "late")
    assert late.find(meta()) is None
    for store in (first, late):
        store.write_shard(meta(), 0, 4, records())
    first.finish(meta(), {}, {}, [(0, 4)])
    before = objects(url)
    late.write_shard(meta(), 4, 8, records(4, 8))
    assert late.finish(meta(), {}, {}, [(0, 4), (4, 8)]).meta["counts"]["examples"] == 4
    assert objects(url) == before


def test_what_is_removed_or_replaced_there_is_so_here(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Store(url)
    here.write(meta(), {}, {}, records(value=0.25))
    here.write(meta(seed=7), {}, {}, records())
    there = other_machine(url, monkeypatch, tmp_path / "there")
    assert len(there.cells()) == 2
    here.write(meta(), {}, {}, records(value=0.75))
    Remote(url).remove([name for name in objects(url) if meta(seed=7)["key"] in name])
    (found,) = there.cells()
    assert found.scores["value"].tolist() == [0.75] * 4


def test_a_fault_of_the_mirror_is_none_of_the_store(url: str) -> None:
    cell = Store(url).write(meta(), {}, {}, records())
    (cell.path / "scores.parquet").write_bytes(b"nothing")
    found = Store(url).find(meta())
    assert found is not None
    assert found.scores["value"].tolist() == [0.5] * 4
    (cell.path / "curves.parquet").unlink()
    assert len(Store(url).checked_cells()) == 1
    assert not [name for name in objects(url) if name.startswith(".damaged")]


@pytest.mark.parametrize("harm", ["cut short", "a bit flipped", "empty"])
def test_an_object_that_is_damaged_is_set_aside(url: str, mirror: Path, harm: str) -> None:
    store = Store(url)
    store.write(meta(), {}, {}, records())
    (name,) = objects(url)
    files, root = fsspec.core.url_to_fs(url)
    content = bytearray(files.cat_file(f"{root}/{name}"))
    content[len(content) // 2] ^= 1
    files.pipe_file(f"{root}/{name}", bytes({"cut short": content[:-9], "a bit flipped": content, "empty": b""}[harm]))
    with pytest.raises(AssayError, match=r"is damaged.*Run the same command again"):
        Store(url).checked_cells()
    fresh = Store(url)
    with pytest.raises(Damaged):
        fresh.find(meta())
    assert fresh.set_aside(fresh.cell_path(meta())).startswith(f"{url}/.damaged/")
    assert fresh.find(meta()) is None
    fresh.write(meta(), {}, {}, records())
    assert len(Store(url).checked_cells()) == 1
    assert len(objects(url)) == 2


def test_names_that_lead_elsewhere_are_no_cells(url: str, mirror: Path) -> None:
    store = Store(url)
    store.write(meta(), {}, {}, records())
    files, root = fsspec.core.url_to_fs(url)
    for name in ("task/.hidden/x-1.zip", "task/model/deeper/x-1.zip", "notes.txt", "task/model/x.txt"):
        files.pipe_file(f"{root}/{name}", b"x")
    assert len(Store(url).checked_cells()) == 1


@pytest.mark.parametrize("url", ["s3"], indirect=True)
def test_what_is_known_of_a_mirror_is_never_half_written(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process that works in the same mirror would take what it reads of it for another object's."""
    store = Store(url)
    path = store.shard_path(meta(), 0, 4)
    store.write_shard(meta(), 0, 4, records())
    marks = [file for file in store.root.glob(".stamps/**/*") if file.is_file()]
    assert len(marks) == 1
    before = marks[0].stat().st_ino
    store.write_shard(meta(), 0, 4, records())
    assert marks[0].stat().st_ino != before
    monkeypatch.setattr(Remote, "download", lambda *_: pytest.fail("fetched again"))
    assert Store(url).has_part(path)


def zipped(path: Path, files: dict[str, bytes], **changes: Any) -> Path:
    with zipfile.ZipFile(path, "w", changes.pop("compression", zipfile.ZIP_STORED)) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = archive.compression
            for field, value in changes.items():
                setattr(info, field, value)
            archive.writestr(info, content)
    return path


def sound(folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    (folder / "cell.json").write_text("{}")
    seal(folder)
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize(
    ("more", "changes", "told"),
    [
        ({"../cell.json": b"{}"}, {}, "which no result has"),
        ({"/etc/cell.json": b"{}"}, {}, "which no result has"),
        ({"nested/cell.json": b"{}"}, {}, "which no result has"),
        ({"run.py": b"print()"}, {}, "which no result has"),
        ({}, {"compression": zipfile.ZIP_DEFLATED}, "compressed"),
        ({}, {"external_attr": (stat.S_IFLNK | 0o777) << 16}, "no plain file"),
        ({"config.json": b"{}"}, {}, "not those of its files"),
        ({"checksums.json": json.dumps({"cell.json": "0", "/dev/zero": "0"}).encode()}, {}, "not those of its files"),
        ({"checksums.json": b'["cell.json"]'}, {}, "not what was written|damaged"),
        ({"checksums.json": b"[" * 100_000}, {}, "cannot be unpacked"),
        ({"cell.json": b"[]"}, {}, "not what was written"),
        ({"cell.json": bytes(2**10)}, {"most": 2**9}, "at most 512 are read"),
    ],
)
def test_a_hostile_object_is_refused(
    tmp_path: Path, more: dict[str, bytes], changes: dict[str, Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = dict(changes)
    if "most" in changes:
        monkeypatch.setattr(packed_folder, "MOST_JSON_BYTES", changes.pop("most"))
    packed = zipped(tmp_path / "packed", {**sound(tmp_path / "sound"), **more}, **changes)
    target = tmp_path / "deep" / "target"
    target.mkdir(parents=True)
    with pytest.raises(Damaged, match=told):
        unpack(packed, target)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["target"]
    assert not any(path.is_symlink() for path in target.iterdir())


def test_a_file_that_is_packed_twice_is_refused(tmp_path: Path) -> None:
    # The second name is made the first one's after the archive is written, which warns of such a thing.
    content = zipped(tmp_path / "packed", {"cell.json": b"{}", "work.json": b"{}"}).read_bytes()
    (tmp_path / "packed").write_bytes(content.replace(b"work.json", b"cell.json"))
    (tmp_path / "target").mkdir()
    with pytest.raises(Damaged, match="twice"):
        unpack(tmp_path / "packed", tmp_path / "target")


def test_whatever_bit_is_flipped_an_object_is_sound_or_damaged(tmp_path: Path) -> None:
    """In the list of its files, where the archive says what is where; nothing else comes of it."""
    content = zipped(tmp_path / "packed", sound(tmp_path / "sound")).read_bytes()
    refused = 0
    for place in range(content.index(b"PK\1\2"), len(content)):
        for bit in (0, 3, 7):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            (tmp_path / "changed").write_bytes(changed)
            target = tmp_path / f"{place}-{bit}"
            target.mkdir()
            try:
                unpack(tmp_path / "changed", target)
            except Damaged:
                refused += 1
    assert refused > 200


def test_equal_folders_make_equal_objects(tmp_path: Path) -> None:
    for name in ("one", "two"):
        sound(tmp_path / name)
        pack(tmp_path / name, tmp_path / f"{name}.zip")
        time.sleep(0.01)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("s3://", "names no bucket"),
        ("nonsense://bucket", "Protocol not known"),
        ("ftp://user:password@host/x", "holds a password"),
        ("simplecache::s3://bucket/x", "chain of protocols"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused(wrong: str, told: str) -> None:
    with pytest.raises(AssayError, match=told) as error:
        Store(wrong)
    assert "password@" not in str(error.value)


@pytest.mark.parametrize(("scheme", "package"), [("s3", r"assay\[s3\]"), ("gs", "gcsfs"), ("odd", "package for odd")])
def test_a_missing_package_is_named(scheme: str, package: str) -> None:
    with (
        patch("fsspec.core.url_to_fs", side_effect=ImportError("Install it")),
        pytest.raises(AssayError, match=package),
    ):
        Remote(f"{scheme}://bucket/x")


def test_no_bucket_no_right_and_no_credentials_are_told_before_the_work(server: Any) -> None:
    with pytest.raises(AssayError, match="does not exist"):
        Store("s3://no-such-bucket/results").prepare()
    files = remote_store.remote_at("s3://bucket/x")._files
    with (
        patch.object(files, "pipe_file", side_effect=PermissionError("Denied")),
        pytest.raises(AssayError, match=r"Denied\. Check the credentials"),
    ):
        Store("s3://bucket/x").prepare()
    unknown = type("NoCredentialsError", (Exception,), {})("Unable to locate credentials")
    with (
        patch.object(files, "pipe_file", side_effect=unknown),
        pytest.raises(AssayError, match=r"locate credentials\. Check the credentials"),
    ):
        Store("s3://bucket/x").prepare()


def test_a_network_that_fails_is_asked_again_and_not_for_ever(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("assay.benchmark.remote_store.time.sleep", waited.append)
    store = Store(url)
    files = remote_store.remote_at(url)._files
    put, failures = files.put_file, iter([TimeoutError("slow"), ConnectionResetError("reset")])

    def flaky(*arguments: Any, **named: Any) -> Any:
        for failure in failures:
            raise failure
        return put(*arguments, **named)

    monkeypatch.setattr(files, "put_file", flaky)
    store.write_shard(meta(), 0, 4, records())
    assert waited == list(remote_store.WAITS[:2])
    waited.clear()
    monkeypatch.setattr(files, "put_file", lambda *_, **__: (_ for _ in ()).throw(TimeoutError("gone")))
    with pytest.raises(AssayError, match=r"gone\. What is finished is kept there; run the same command again"):
        store.write_shard(meta(), 4, 8, records(4, 8))
    assert waited == list(remote_store.WAITS)
    assert Store(url).has_part(store.shard_path(meta(), 0, 4))
    assert not Store(url).has_part(store.shard_path(meta(), 4, 8))


def test_a_download_that_is_cut_off_is_no_damage(url: str, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Store(url).write(meta(), {}, {}, records())
    shutil.rmtree(mirror)
    monkeypatch.setattr("assay.benchmark.remote_store.time.sleep", lambda _: None)
    store = Store(url)
    files = remote_store.remote_at(url)._files
    get, times = files.get_file, iter(range(9))

    def cut(source: str, target: str) -> None:
        get(source, target)
        if next(times) == 0:
            content = Path(target).read_bytes()
            Path(target).write_bytes(content[: len(content) // 2])

    monkeypatch.setattr(files, "get_file", cut)
    assert store.find(meta()) is not None
    assert next(times) == 2


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("setting")
    model, data = save_model(folder / "model"), save_task(folder / "data")
    return [
        *(f"model={model}", f"task.path={data}", "task=sst2", "explainer=leave_one_out", "metric=[comprehensiveness]"),
        *("tracker=none", "allow_low_accuracy=true", "shard_size=1"),
    ]


def scores(results: str | Path) -> dict[str, list[float]]:
    return {cell.explainer: cell.scores["value"].tolist() for cell in Store(results).checked_cells()}


def test_a_run_to_s3_that_is_killed_and_two_at_once_end_as_a_local_one(
    server: Any, setting: list[str], tmp_path: Path
) -> None:
    local, url = tmp_path / "local", f"s3://bucket/{tmp_path.name}"
    assert assay("run", *setting, f"results={local}").code == 0
    server_here = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}

    def start(name: str) -> Run:
        mirror = {"ASSAY_MIRROR": str(tmp_path / f"mirror {name}")}
        return Run(["run", *setting, f"results={url}"], tmp_path / name, url, environment={**server_here, **mirror})

    killed = start("killed")
    # As soon as the first shard is there.
    while killed.process.is_alive() and not [name for name in objects(url) if name.endswith(".zip")]:
        time.sleep(0.05)
    killed.signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL, killed.said
    for run in [start("one"), start("two")]:
        assert run.wait() == 0, run.said
    assert scores(url) == scores(local)
    assert [name for name in objects(url) if name.startswith(".")] == []
    assert not (ROOT / "s3:").exists()

    for command, code, told in (
        (["leaderboard", "build", url, "--out", f"{tmp_path}/site", "--tracker", "none", "--workers", "1"], 0, "site"),
        (["leaderboard", "show", url], 0, "leave_one_out"),
        (["score", url, "metric=[sufficiency]"], 0, "sufficiency"),
        (["export", "attributions", url, "--out", f"{tmp_path}/attributions"], 0, "leave_one_out: 6 examples"),
        (["run", "-m", *setting, f"results={url}"], 0, "all 3 cells were finished before"),
        # These have read the results, and one method is too few for them.
        (["compare-protocols", url], 2, "two explainers or more"),
        (["power", "--pilot", url, "--difference", "0.1"], 2, "one explainer beside the controls"),
        (["export", "eraser", url, "--out", f"{tmp_path}/eraser"], 2, "Nothing can be exported"),
        (
            ["leaderboard", "submit", url, "--explainer", "lime", "--name", "x", "--link", "https://x.org"],
            2,
            "citation",
        ),
    ):
        ended = assay(*command)
        assert ended.code == code, (command, ended.err)
        assert told in ended.out + ended.err
    assert "leave_one_out" in (tmp_path / "site" / "leaderboard.csv").read_text()
    assert len(Store(url).checked_cells()) == 6
    assert not (ROOT / "s3:").exists()
