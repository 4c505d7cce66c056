"""A repository of results: laid out, filled by pull requests, and defended by the workflow's own commands."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import yaml

from assay.digests import digest
from assay.leaderboard.build import build
from assay.leaderboard.checking import Report
from assay.leaderboard.repository import check_repository, published_methods
from tests.benchmark.cli import Ended, assay
from tests.leaderboard.submitting import cell_of, check, copied, forge, forge_json, make_place, submit


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Beside results and a submission of rise a repository that holds a submission of gradient_x_input."""
    folder = make_place(tmp_path_factory.mktemp("repository"))
    assert assay("leaderboard", "init", str(folder / "repository")).code == 0
    assert submit(folder / "results", folder / "first", "gradient_x_input").code == 0
    assert accept(folder / "first", folder / "repository").code == 0
    return folder


@pytest.fixture
def base(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "repository", tmp_path / "base"))


@pytest.fixture
def proposed(place: Path, tmp_path: Path) -> Path:
    """The repository with rise added."""
    folder = Path(shutil.copytree(place / "repository", tmp_path / "proposed"))
    assert accept(place / "submission", folder).code == 0
    return folder


def accept(submission: Path, repository: Path) -> Ended:
    return assay("leaderboard", "accept", str(submission), str(repository))


def compared(proposed: Path, base: Path) -> Report:
    return check_repository(proposed, base, model=False)


def workflow(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.load((folder / ".github/workflows" / name).read_text("utf-8"), yaml.BaseLoader)
    return content


def test_a_repository_is_laid_out(place: Path, tmp_path: Path) -> None:
    ended = assay("leaderboard", "init", str(tmp_path / "new"))
    assert ended.code == 0, ended.err
    written = sorted(
        one.relative_to(tmp_path / "new").as_posix() for one in (tmp_path / "new").rglob("*") if one.is_file()
    )
    assert written == [
        ".gitattributes",
        ".github/workflows/check.yml",
        ".github/workflows/site.yml",
        "CITATION.cff",
        "README.md",
        "requirements.txt",
        "results/submissions/.gitkeep",
    ]
    assert yaml.safe_load((tmp_path / "new" / "CITATION.cff").read_text("utf-8"))["type"] == "dataset"
    again = assay("leaderboard", "init", str(tmp_path / "new"))
    assert (again.code, "is not empty" in again.err) == (2, True)
    assert check(place, tmp_path / "new").code == 0


def test_a_submission_becomes_cells_and_an_entry(proposed: Path, tmp_path: Path) -> None:
    methods = published_methods(proposed / "results")
    assert len(methods) == 2
    assert all((proposed / "results" / cell / "cell.json").is_file() for cell in methods)
    assert build(proposed / "results", tmp_path / "site").is_file()
    for explainer in ("rise", "gradient_x_input"):
        page = (tmp_path / "site" / "explainers" / f"{explainer}.html").read_text("utf-8")
        method = next(method for cell, method in methods.items() if f"/{explainer}-" in cell)
        assert f'<a href="{method.link}"' in page
        assert method.citation in unescape(page)
    assert "Submitted" not in (tmp_path / "site" / "explainers" / "oracle.html").read_text("utf-8")


def test_the_same_submission_is_taken_in_once(place: Path, proposed: Path, tmp_path: Path) -> None:
    before = sorted(proposed.rglob("*"))
    assert accept(place / "submission", proposed).code == 0  # nothing new
    assert sorted(proposed.rglob("*")) == before
    other = copied(place, tmp_path)
    shutil.rmtree(cell_of(other, "oracle"))
    ended = accept(other, proposed)
    assert (ended.code, "there must be one control 'oracle'; there are 0" in ended.err) == (2, True)
    ended = accept(place / "submission", tmp_path)
    assert (ended.code, "has no folder results" in ended.err) == (2, True)


def test_what_is_added_is_asked_of_the_model_and_nothing_else(place: Path, base: Path, proposed: Path) -> None:
    ended = check(place, proposed, "--base", str(base))
    assert ended.code == 0, ended.err
    assert "4 cells, 1 of them new." in ended.out
    assert ended.out.count("was asked about") == 1
    nothing = check(place, proposed, "--base", str(proposed))
    assert (nothing.code, "0 of them new" in nothing.out, "asked about" in nothing.out) == (0, True, False)
    everything = check(place, proposed, "--no-model")
    assert (everything.code, "4 cells, 4 of them new." in everything.out) == (0, True)


def test_what_was_there_stays_as_it_was(base: Path, proposed: Path) -> None:
    old = cell_of(proposed / "results", "gradient_x_input")
    (old / "environment.json").write_text("{}")
    assert "was changed. What is here stays" in compared(proposed, base).faults[0]
    shutil.rmtree(old)
    assert any(f"{old.name} was removed" in fault for fault in compared(proposed, base).faults)
    (entry,) = (proposed / "results" / "submissions").glob("gradient*")
    entry.unlink()
    assert any("submissions was removed" in fault for fault in compared(proposed, base).faults)


def test_a_forged_addition_is_refused(place: Path, base: Path, tmp_path: Path) -> None:
    forged = copied(place, tmp_path)
    forge(forged, "answers", lambda rows: [{**row, "logits": [one + 1 for one in row["logits"][::-1]]} for row in rows])
    proposed = Path(shutil.copytree(base, tmp_path / "proposed"))
    assert accept(forged, proposed).code == 0
    ended = check(place, proposed, "--base", str(base))
    assert ended.code == 1
    assert "rise-" in ended.err


def test_a_second_cell_of_one_name_under_one_protocol_is_refused(place: Path, base: Path, tmp_path: Path) -> None:
    other = copied(place, tmp_path)

    def rename(meta: Any) -> None:
        meta["explainer"]["settings"]["samples"] = 99
        identity = {name: meta["explainer"][name] for name in ("name", "settings")}
        meta["key"] = digest({"protocol": meta["protocol"], "explainer": identity})

    assert accept(place / "submission", base).code == 0
    cell = cell_of(other)
    forge_json(other, "cell.json", rename)
    key = json.loads((cell / "cell.json").read_text("utf-8"))["key"]
    cell.rename(cell.with_name(f"rise-{key}"))
    forge_json(other, "config.json", lambda config: None)
    ended = accept(other, base)
    assert ended.code == 2
    assert "with other settings under the same protocol; give yours another name" in ended.err
    # Copied by hand, it is found by the check.
    shutil.copytree(other / "sst2", base / "results" / "sst2", dirs_exist_ok=True)
    shutil.copy(other / "submission.json", base / "results" / "submissions" / "rise-2.json")
    report = check_repository(base, model=False)
    assert any("with other settings under the same protocol" in fault for fault in report.faults)


def test_another_name_for_what_is_there_is_refused(place: Path, proposed: Path, tmp_path: Path) -> None:
    twin = copied(place, tmp_path)
    about = json.loads((twin / "submission.json").read_text("utf-8"))
    (twin / "submission.json").write_text(json.dumps({**about, "explainer": "mine"}), "utf-8")

    def rename(meta: Any) -> None:
        meta["explainer"]["name"] = "mine"
        identity = {name: meta["explainer"][name] for name in ("name", "settings")}
        meta["key"] = digest({"protocol": meta["protocol"], "explainer": identity})

    cell = cell_of(twin)
    forge_json(twin, "cell.json", rename)
    key = json.loads((cell / "cell.json").read_text("utf-8"))["key"]
    cell.rename(cell.with_name(f"mine-{key}"))
    forge_json(twin, "config.json", lambda config: None, "mine")
    assert accept(twin, proposed).code == 0
    report = check_repository(proposed, model=False)
    assert any("its attributions are those of sst2/tiny/rise-" in fault for fault in report.faults)


def test_a_cell_that_nobody_answers_for_is_refused(base: Path, proposed: Path) -> None:
    (entry,) = (proposed / "results" / "submissions").glob("rise*")
    kept = entry.read_text("utf-8")
    entry.unlink()
    assert "no file in results/submissions answers for sst2/tiny/rise-" in compared(proposed, base).faults[0]
    entry.write_text(kept, "utf-8")
    entry.with_name("rise-again.json").write_text(kept, "utf-8")
    assert "is listed by" in compared(proposed, base).faults[0]


def test_anything_else_among_the_results_is_refused_and_elsewhere_it_is_pointed_out(base: Path, proposed: Path) -> None:
    (proposed / ".github" / "workflows" / "check.yml").write_text("on: push")
    (proposed / "more.py").write_text("1")
    notes = compared(proposed, base).notes
    assert sum(note.startswith("Not checked, read it yourself: ") for note in notes) == 2
    (proposed / "results" / "run.sh").write_text("1")
    assert "run.sh does not belong here" in compared(proposed, base).faults[0]
    (proposed / "results" / "run.sh").unlink()
    (proposed / "results" / "sst2" / "link").symlink_to(base)
    assert "link is a symbolic link" in compared(proposed, base).faults[0]


# The workflows


def test_workflows_have_the_rights_that_they_need_and_no_more(place: Path) -> None:
    on_pull_request = workflow(place / "repository", "check.yml")
    # With pull_request_target a stranger's files would meet the repository's own token.
    assert on_pull_request["on"] == {"pull_request": ""}
    site = workflow(place / "repository", "site.yml")
    assert on_pull_request["permissions"] == site["permissions"] == {"contents": "read"}
    assert [job.get("permissions") for job in on_pull_request["jobs"].values()] == [None]
    rights = {name: job.get("permissions") for name, job in site["jobs"].items()}
    assert rights == {"build": None, "publish": {"pages": "write", "id-token": "write"}}
    for content in (on_pull_request, site):
        for job in content["jobs"].values():
            assert {"runs-on", "timeout-minutes", "steps"} <= set(job)
            for step in job["steps"]:
                assert ("uses" in step) != ("run" in step)
                # What a stranger wrote, such as a branch's name, is never put into a shell.
                assert "${{" not in step.get("run", "")
                if step.get("uses", "").startswith("actions/checkout"):
                    assert step["with"]["persist-credentials"] == "false"


def test_the_workflows_commands_do_what_they_should(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each shell step as it stands, in a checkout of a merge as GitHub makes it; where model and task lie is added."""
    origin = Path(shutil.copytree(place / "repository", tmp_path / "origin"))
    git(origin, "init", "-q", "-b", "main")
    git(origin, "add", "-A")
    git(origin, "commit", "-q", "-m", "The repository")
    git(origin, "switch", "-q", "-c", "mine")
    assert accept(place / "submission", origin).code == 0
    git(origin, "add", "-A")
    git(origin, "commit", "-q", "-m", "My method")
    git(origin, "switch", "-q", "main")
    git(origin, "merge", "-q", "--no-ff", "-m", "Merge", "mine")
    work = tmp_path / "work"
    work.mkdir()
    git(work, "clone", "-q", "--depth", "2", f"file://{origin}", "proposed")
    steps = [step["run"] for step in workflow(origin, "check.yml")["jobs"]["check"]["steps"] if "run" in step]
    assert [step.split()[0] for step in steps] == ["git", "python", "assay"]
    assert subprocess.run(["bash", "-e", "-c", steps[0]], cwd=work, check=True).returncode == 0
    assert not list((work / "base" / "results").rglob("rise-*"))
    assert (work / steps[1].split()[-1]).read_text("utf-8").startswith("assay==")
    monkeypatch.chdir(work)
    ended = assay(*shlex.split(steps[2])[1:], f"model.path={place / 'models'}", f"task.path={place / 'data'}")
    assert ended.code == 0, ended.err
    assert "4 cells, 1 of them new." in ended.out
    assert ended.out.splitlines()[-1] == "It holds."
    commands = [step["run"] for step in workflow(origin, "site.yml")["jobs"]["build"]["steps"] if "run" in step]
    assert (origin / commands[0].split()[-1]).is_file()
    monkeypatch.chdir(work / "proposed")
    assert assay(*shlex.split(commands[1])[1:]).code == 0
    assert (work / "proposed" / "site" / "index.html").is_file()


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True)
