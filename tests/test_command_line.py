"""The command line answers help at once, and lists what there is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from assay import registry
from tests.benchmark.cli import assay, save_model

HEAVY = ("torch", "transformers", "datasets", "wandb", "pandas", "sklearn", "scipy", "pyarrow", "hydra")


@pytest.mark.parametrize("arguments", [["--help"], ["list", "explainers"], ["list", "tasks"], ["run", "--help"]])
def test_help_and_lists_import_nothing_heavy(arguments: list[str]) -> None:
    program = (
        "import sys; from assay.command_line import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print('IMPORTED', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    assert ended.stdout.strip().endswith("IMPORTED []")


@pytest.mark.parametrize("group", ["explainers", "metrics", "tasks", "models", "perturbations", "protocols"])
def test_a_list_names_every_member_with_a_line_about_it(group: str) -> None:
    ended = assay("list", group)
    names = [line.split()[0] for line in ended.out.splitlines()]
    assert ended.code == 0
    assert names == registry.names(group[:-1])
    assert all(len(line.split()) > 2 for line in ended.out.splitlines())


def test_a_list_for_a_model_parts_what_is_defined_for_it_from_what_is_not(tmp_path: Path) -> None:
    ended = assay("list", "explainers", "--model", str(save_model(tmp_path / "model")))
    assert ended.code == 0, ended.err
    here, _, elsewhere = ended.out.partition("\nNot for")
    assert {"lime", "attn_lrp", "globenc"} <= {line.split()[0] for line in here.splitlines()}
    assert "olm" in elsewhere
    assert "masked_lm" in elsewhere


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "explainer"], "Did you mean 'explainers'"),
        (["list", "tasks", "--model", "x"], "--model is for explainers"),
        (["list", "explainers", "--model", "/no/such/model"], "There is no model folder '/no/such/model'"),
        (["leaderboard", "build", "/nowhere/at/all", "--out", "/tmp/out", "--tracker", "none"], "no results folder"),
        (["run", "task=sst2", "tracker=none"], "No model is named"),
    ],
)
def test_what_the_user_got_wrong_is_one_line_and_exit_code_2(arguments: list[str], message: str) -> None:
    ended = assay(*arguments)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["rnu"], ["run", "--no-such-option"], []])
def test_commands_that_are_not_there_end_with_2(arguments: list[str]) -> None:
    assert assay(*arguments).code == 2
