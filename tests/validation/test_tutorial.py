"""The tutorial of docs/validating.md, to the letter: its file is written, its commands are run as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.benchmark.cli import assay

PAGE = (Path(__file__).parents[2] / "docs" / "validating.md").read_text("utf-8")
TUTORIAL = PAGE.partition("## From an empty file to a verdict")[2].partition("\n## ")[0]
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w*)\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)


def without_numbers(line: str) -> str:
    """What a line says on every machine; the numbers may differ in their last digit."""
    return re.sub(r"[-−+]?\d[\d.,]*|\s+", " ", line).strip()


def test_a_reader_needs_thirty_lines() -> None:
    typed = [line for language, text in BLOCKS if language for line in text.splitlines() if line.strip()]
    assert 10 < len(typed) <= 30


def test_the_commands_do_what_the_page_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = re.search(r"Save this as `([^`]+)`", TUTORIAL)
    assert name is not None
    printed = ""
    runs = 0
    for language, text in BLOCKS:
        if language == "python":
            Path(name.group(1)).write_text(text, "utf-8")
        elif language == "bash":
            for command in text.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(command)
                assert program == "assay"
                ended = assay(*arguments)
                assert ended.code == 0, ended.err
                printed = ended.out
                runs += 1
        else:
            said = {without_numbers(line) for line in printed.splitlines()}
            lacking = [line for line in text.splitlines() if without_numbers(line) not in said | {""}]
            assert not lacking, printed
    assert runs == 2
    assert "not distinguishable" in Path("first-try/report.md").read_text("utf-8")
