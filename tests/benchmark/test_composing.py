"""The jobs of a sweep are composed as Hydra composes each on its own."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from assay.benchmark import launch
from assay.errors import AssayError

JOBS = (
    ["task=sst2", "seed=0"],
    ["task=sst2", "seed=1", "+explainer@explainers.lime_2=lime", "explainers.lime_2.samples=7"],
    ["task=mnli", "seed=1", "explainer=[attention,lime]"],
    ["task=sst2", "seed=2", "+explainer@explainers.lime_2=lime", "explainers.lime_2.samples=8"],
    ["task=sst2", "seed=1", "~tracker"],
    ["task=sst2", "seed=0", "hydra.sweep.dir=elsewhere"],
    ["task=sst2", "seed=0"],
)


def composed(overrides: Sequence[str]) -> str:
    return OmegaConf.to_yaml(launch._compose("run", ["model.path=x", *overrides]))


def test_every_job_is_as_hydra_composes_it_on_its_own() -> None:
    once = []
    with launch._composer("run", []):
        for overrides in JOBS:
            config = launch._compose("run", ["model.path=x", *overrides])
            once.append(OmegaConf.to_yaml(config))
            # What one job does to its configuration is not the next one's business.
            config.task = None
            del config.explainers
    alone = []
    for overrides in JOBS:
        with launch._composer("run", []):
            alone.append(composed(overrides))
    assert once == alone
    assert len(set(alone)) == len(JOBS) - 1


def test_a_sweep_keeps_nothing_of_the_jobs_that_have_ended(tmp_path: Path) -> None:
    begun: list[weakref.ref[DictConfig]] = []
    alive: list[int] = []

    def job(config: DictConfig) -> list[str]:
        gc.collect()
        # Hydra's own part of the configuration is in every one of them.
        hydras = [one for one in gc.get_objects() if isinstance(one, JobReturn) and one.hydra_cfg is not None]
        alive.append(len(hydras) + sum(one() is not None for one in begun))
        begun.append(weakref.ref(config))
        return [str(config.seed)]

    reports = launch.launch("run", job, ["model.path=x", f"results={tmp_path}", "seed=1,2,3"], sweep=True)
    assert [report.cells for report in reports] == [("1",), ("2",), ("3",)]
    # That of the job itself.
    assert alive == [1, 1, 1]


def test_a_mistake_is_one_each_time() -> None:
    with launch._composer("run", []):
        for _ in range(2):
            with pytest.raises(AssayError, match="samples"):
                composed(["explainer=lime", "explainers.lime.smaples=3"])


def test_a_copy_is_what_omegaconf_copies() -> None:
    plain = OmegaConf.create({"a": {"b": [1, {"c": "${d}"}], "e": None}, "d": 3, "f": "???"})
    OmegaConf.set_struct(plain, True)
    copies = [copy.deepcopy(plain), copy.deepcopy(plain.a)]
    with launch._composer("run", []):
        quick = [copy.deepcopy(plain), copy.deepcopy(plain.a)]
    for one, other in zip(copies, quick, strict=True):
        assert one == other
        assert OmegaConf.is_struct(one) == OmegaConf.is_struct(other)
    assert quick[1]._get_parent() is plain
    assert quick[1].b[1].c == 3
    quick[0].a.b[0] = 2
    quick[1].b[0] = 2
    assert plain.a.b[0] == 1


def test_a_combination_that_cannot_be_composed_is_refused_before_any_job_has_run() -> None:
    done: list[int] = []

    def job(config: DictConfig) -> list[str]:
        done.append(config.seed)
        return []

    overrides = ["model.path=x", "seed=0,1", "explainer=lime,gradient", "explainers.lime.samples=5"]
    with pytest.raises(AssayError, match="lime"):
        launch.launch("run", job, overrides, sweep=True)
    assert done == []
    launch.launch("run", job, [overrides[0], overrides[1], "explainer=lime,gradient"], sweep=True)
    assert done == [0, 0, 1, 1]
