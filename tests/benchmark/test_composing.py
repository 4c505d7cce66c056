"""The jobs of a sweep are composed as Hydra composes each on its own."""

from __future__ import annotations

import copy
import gc
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
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
    assert alive == [0, 0, 0]


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


class Heard(Callback):
    """A callback of the user's own, for which Hydra runs each job in its own way."""

    jobs: ClassVar[list[int]] = []

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        self.jobs.append(config.hydra.job.num)


def seen_by_jobs(overrides: Sequence[str]) -> list[tuple[Any, ...]]:
    """What each job of a sweep sees: its configuration, and what Hydra says of it."""
    seen: list[tuple[Any, ...]] = []

    def job(config: DictConfig) -> list[str]:
        hydra = HydraConfig.get()
        container: Any = OmegaConf.to_container(hydra)
        del container["callbacks"]
        container["overrides"]["hydra"] = [
            one for one in container["overrides"]["hydra"] if not one.startswith("+hydra.callbacks")
        ]
        # They refer to settings of the job and of Hydra's own.
        referred = (hydra.sweep.dir, hydra.runtime.output_dir, hydra.job.override_dirname)
        flags = (OmegaConf.is_struct(config), OmegaConf.is_readonly(config), OmegaConf.is_readonly(hydra))
        surroundings = (os.getcwd(), os.environ.get("ASSAY_SAID"))
        seen.append((OmegaConf.to_container(config, resolve=True), container, referred, flags, surroundings))
        config.seed = -1
        return []

    launch.launch("run", job, overrides, sweep=True)
    return seen


def test_a_job_of_a_sweep_sees_what_hydra_would_show_it(tmp_path: Path) -> None:
    sweep = [
        "model.path=x",
        f"results={tmp_path}",
        "sweep=named",
        "task=sst2,mnli",
        "seed=1,2",
        "task.size=3,null",
        "explainer=[lime]",
        "explainers.lime.samples=7,8",
        "+hydra.job.env_set.ASSAY_SAID=so",
    ]
    Heard.jobs = []
    by_hydra = seen_by_jobs([*sweep, f"+hydra.callbacks.heard._target_={__name__}.Heard"])
    assert Heard.jobs == list(range(16))
    assert seen_by_jobs(sweep) == by_hydra
    assert Heard.jobs == list(range(16))
    assert len({repr(one) for one in by_hydra}) == 16


def test_settings_that_have_to_do_with_each_other_keep_their_order() -> None:
    jobs = [
        ["task.size=3", "task={size: 4}", "seed=1"],
        ["task.size=5", "task={size: 4}", "seed=2"],
        ["seed=1", "seed=2"],
        ["seed=3", "seed=2"],
        ["explainer=lime", "explainers.lime={samples: 9}", "explainers.lime.samples=5"],
        ["explainer=lime", "explainers.lime={samples: 9}", "explainers.lime.samples=6"],
        ["explainer=lime", "explainers.lime.samples=6", "explainers.lime={samples: 9}"],
        ["results=a", "sweep=b"],
        ["results='${sweep}'", "sweep=c"],
        ["results=null", "sweep=[1,2]"],
        ["results=7", "sweep={a: 1}"],
    ]
    with launch._composer("run", []):
        once = [composed(overrides) for overrides in jobs]
    alone = []
    for overrides in jobs:
        with launch._composer("run", []):
            alone.append(composed(overrides))
    assert once == alone
