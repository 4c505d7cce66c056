"""The tasks whose true words were planted, and models that answer them without a mistake: trained once, then kept."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay import registry
from assay.benchmark import launch
from assay.benchmark.launch import Report
from assay.benchmark.progress import say
from assay.errors import AssayError, unknown_name
from assay.validation.overrides import Overrides, spelled, with_subject

if TYPE_CHECKING:
    from assay.validation.subject import Subject

# A model that errs more often may have learnt something else than what was planted.
ACCURACY = 0.98


@dataclass(frozen=True)
class Planted:
    """Which planted tasks a method is put to.

    Attributes:
        tasks: their names; none for no planted truth.
        size: how many examples of each.
        models: the folder that holds a model for each, under the task's name.
    """

    tasks: Sequence[str]
    size: int
    models: Path

    @classmethod
    def of(cls, overrides: Sequence[str]) -> Planted:
        """Read the overrides of `validate.yaml`.

        Raises:
            AssayError: a setting that there is none of, or a value that cannot be.
        """
        content: Mapping[str, Any] = launch.compose("validate", overrides).planted
        known = [name for name in registry.names("task") if name.startswith("planted_")]
        tasks = [content["tasks"]] if isinstance(content["tasks"], str) else list(content["tasks"] or ())
        for task in tasks:
            if task not in known:
                raise unknown_name("planted task", str(task), known)
        size = content["size"]
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise AssayError(f"planted.size must be a whole number of at least 1, not {size!r}.")
        models = content["models"]
        return cls(tasks, size, _cache() if models is None else Path(str(models)).expanduser())

    def train(self) -> list[Report]:
        """Train the models that are not there yet; how it went for each task."""
        from assay.training import train

        lacking = [task for task in self.tasks if not (self.models / task).exists()]
        if lacking:
            few = f"{len(lacking)} small model{'s' if len(lacking) > 1 else ''} for {', '.join(lacking)}"
            say(f"Training {few}, once; they are kept in {self.models}.")
        return launch.launch(
            "train",
            lambda config: [str(train(config))],
            [
                f"task={','.join(self.tasks)}",
                f"output={spelled(str(self.models) + '/${task.name}')}",
                f"minimum_accuracy={ACCURACY}",
            ],
            sweep=True,
        )

    def overrides(self, subject: Subject, given: Overrides, results: Path) -> list[str]:
        """What `assay run -m` is given to have the method and the baselines explain the planted tasks."""
        return [
            *with_subject(subject, given.everywhere),
            f"task={','.join(self.tasks)}",
            f"task.size={self.size}",
            f"model.path={spelled(str(self.models) + '/${task.name}')}",
            "metric=ground_truth",
            f"results={spelled(str(results))}",
        ]


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay" / "planted"
