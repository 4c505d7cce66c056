"""The sweep file: what an agent of W&B would run is a command that Assay takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.benchmark.cli import assay

FILE = Path(__file__).parents[2] / "docs" / "wandb_sweep.yaml"


@pytest.fixture(scope="module")
def sweep() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
    return content


def commands(sweep: dict[str, Any]) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """What a grid of agents runs, composed as `wandb.wandb_agent.Agent._command_run` does."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    choices = {name: part.get("values", [part.get("value")]) for name, part in sweep["parameters"].items()}
    for values in itertools.product(*choices.values()):
        chosen = dict(zip(choices, values, strict=True))
        given: dict[str, Any] = create_sweep_command_args(
            {"args": {name: {"value": one} for name, one in chosen.items()}}
        )
        given |= {"interpreter": ["python"], "program": [sweep["program"]], "env": ["/usr/bin/env"]}
        parts: list[str] = []
        for part in create_sweep_command(list(sweep["command"])):
            parts += given[part[2:-1]] if part.startswith("${") and part.endswith("}") else [str(part)]
        yield chosen, parts


def test_what_agents_run_is_composed_to_what_was_asked_for(sweep: dict[str, Any]) -> None:
    found = list(commands(sweep))
    assert len(found) == 9
    for chosen, command in found[::4]:
        assert command[:3] == ["/usr/bin/env", "assay", "run"]
        ended = assay(*command[2:], "--show-config")
        assert (ended.code, ended.err) == (0, "")
        config = yaml.safe_load(ended.out)
        assert config["task"]["name"] == chosen["task"]
        assert config["task"]["size"] == 200
        assert config["model"]["path"] in ("models/bert-${task.name}", f"models/bert-{chosen['task']}")
        assert list(config["explainers"]) == [chosen["explainer"]]
        assert config["seed"] == chosen["seed"]


def test_what_the_sweep_optimises_is_what_a_job_logs(sweep: dict[str, Any]) -> None:
    """`tests/benchmark/test_wandb_content.py` finds this name in the run of a job."""
    assert sweep["metric"] == {"name": "mean_skill/mask/mean", "goal": "maximize"}


def test_wandbs_own_schema_accepts_the_sweep(sweep: dict[str, Any]) -> None:
    schema = pytest.importorskip(
        "sweeps.config", reason="W&B's package `sweeps`, which holds the schema, is not installed"
    )
    assert schema.schema_violations_from_proposed_config(sweep) == []
    assert schema.schema_violations_from_proposed_config({**sweep, "method": "gird"})
