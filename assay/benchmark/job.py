"""What a job of `assay run` is about: built from its configuration and checked before any model is loaded."""

from __future__ import annotations

import copy
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, get_args

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assay import registry
from assay.benchmark import preparation, preset
from assay.benchmark.configured_model import KINDS, class_names
from assay.benchmark.evaluation import Settings
from assay.benchmark.labels import match_labels
from assay.benchmark.launch import suite_is_chosen
from assay.benchmark.own_perturbation import build_explainer
from assay.benchmark.progress import say
from assay.benchmark.shared_answers import SharedAnswers
from assay.benchmark.store import Store
from assay.benchmark.summary import CONTROLS
from assay.benchmark.workers import ALONE, OF_WORKERS, Worker
from assay.classifier import Classifier
from assay.encoding import FeatureUnit, Output
from assay.errors import AssayError, unknown_name
from assay.example import Example
from assay.explainers.base import Explainer
from assay.metrics.base import ALL, MethodMetric, Metric
from assay.model_loading import check_placing
from assay.perturbation import Perturbation
from assay.tasks import Source
from assay.tasks.base import stratified

CHOICES: dict[str, tuple[str, ...]] = {
    "overwrite": ("only-missing", "always", "never"),
    "feature": get_args(FeatureUnit),
    "output": get_args(Output),
}


@dataclass(eq=False)
class Job:
    """What one job is about, built and checked.

    Attributes:
        content: the resolved configuration, with what the names of its cells hang on besides.
        recipe: the resolved configuration as it was, from which the same job can be built again.
        store: where its cells go.
        source: of the examples.
        explainers: by name, the controls included.
        metrics: by name.
        perturbations: by name.
        settings: what else is the same for all its cells.
        backgrounds: examples of the task's train split, by how many were asked for.
        alone: explainers that are computed apart from the others since they took a shard down with them.
        shared: the model's answers that its cells share with others, once they are needed.
    """

    content: dict[str, Any]
    recipe: dict[str, Any]
    store: Store
    source: Source
    explainers: dict[str, Explainer]
    metrics: dict[str, Any]
    perturbations: dict[str, Any]
    settings: Settings
    backgrounds: dict[int, Sequence[Example]] = field(default_factory=dict)
    alone: set[str] = field(default_factory=set)
    shared: SharedAnswers | None = None

    @property
    def judges(self) -> dict[str, MethodMetric]:
        """The metrics that judge methods, by name."""
        return {name: metric for name, metric in self.metrics.items() if isinstance(metric, MethodMetric)}

    def background(self, count: int) -> Sequence[Example]:
        """Examples of the task's train split, the same for everyone who wants as many."""
        if not self.backgrounds:
            self.backgrounds[ALL] = _train_split(self).load().examples
        if count not in self.backgrounds:
            train = self.backgrounds[ALL]
            chosen = stratified([example.label for example in train], min(count, len(train)), self.settings.seed)
            self.backgrounds[count] = [train[index] for index in chosen]
        return self.backgrounds[count]

    def check_judges(self, model: Classifier) -> None:
        """Leave out the metrics that cannot be measured on this model.

        Raises:
            AssayError: one that was asked for by name.
        """
        for name, judge in self.judges.items():
            try:
                judge.check(model)
            except AssayError as error:
                if not suite_is_chosen("metric"):
                    raise AssayError(f"{name}: {error}") from error
                self.leave_out_metric(name, str(error))

    def leave_out_metric(self, name: str, reason: str) -> None:
        """Go on without a metric, and say so."""
        say(f"{name} is left out: {reason}")
        del self.metrics[name], self.content["metrics"][name]

    def leave_out(self, reasons: Mapping[str, str]) -> None:
        """Go on without some explainers, and say why of each."""
        for name, reason in reasons.items():
            say(f"{name} is left out: {reason}")
            del self.explainers[name], self.content["explainers"][name]


def check(config: DictConfig, worker: Worker = ALONE) -> Job:
    """Build everything that is cheap to build, so that a mistake shows before any model is loaded.

    Args:
        config: composed from `assay/conf/run.yaml`.
        worker: who is to do the job, which is the same for any number of workers but for the device that each takes.

    Raises:
        AssayError: a mistake, with what would be right.
    """
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        if key == "model.path":
            raise AssayError("No model is named. Set model.path to a local folder or a hub id.") from error
        if str(key).startswith("explainers."):
            raise AssayError(f"{key} must be given, as {key}=VALUE.") from error
        raise AssayError(f"The configuration is incomplete: {str(error).splitlines()[0]}") from error
    assert isinstance(container, dict)
    content: dict[str, Any] = {str(key): value for key, value in container.items() if key not in OF_WORKERS}
    content["model"]["device"] = worker.device(content["model"]["device"])
    content["command"] = _command()
    preset.apply(content, preset.chosen_groups({"metric": "default", "perturbation": "mask"}))
    for key, choices in CHOICES.items():
        if content[key] not in choices:
            raise unknown_name(key, str(content[key]), choices)
    _whole_number("shard_size", content["shard_size"])
    _check_faults(content)
    if not isinstance(content["share_answers"], bool):
        raise AssayError(f"share_answers must be true or false, not {content['share_answers']!r}.")
    for group, example in (("metrics", "metric=default"), ("perturbations", "perturbation=mask")):
        if not content.get(group):
            raise AssayError(f"There are no {group}. Choose some, for example with {example}.")
    chosen = dict(content.get("explainers") or {})
    controls = {name: registry.settings("explainer", name) for name in CONTROLS if name not in chosen}
    content["explainers"] = {**chosen, **controls}
    job = build_job(content)
    job.store.prepare()
    for group, built, base in (
        ("explainers", job.explainers, Explainer),
        ("metrics", job.metrics, (Metric, MethodMetric)),
        ("perturbations", job.perturbations, Perturbation),
    ):
        for name, one in built.items():
            if not isinstance(one, base):
                wanted = base.__name__ if isinstance(base, type) else " or ".join(one.__name__ for one in base)
                raise AssayError(f"{group}.{name}: {type(one).__name__} does not inherit from {wanted}.")
            source_digest = registry.foreign_source(one)
            if source_digest is not None:
                content[group][name]["source"] = source_digest
    if content["tokens_per_batch"] is not None:
        _whole_number("tokens_per_batch", content["tokens_per_batch"])
    check_placing(*(content["model"][name] for name in ("device", "weights", "device_map")))
    if content["model"]["kind"] not in KINDS:
        raise unknown_name("model.kind", str(content["model"]["kind"]), KINDS)
    labels = class_names(content["model"])
    match_labels(job.source.labels, labels)
    target = content["target"]
    if target not in ("predicted", "gold", *labels, *range(len(labels))):
        raise unknown_name("target", str(target), ["predicted", "gold", *labels])
    contrast = content["contrast"]
    if contrast not in (None, "runner_up", *labels, *range(len(labels))):
        raise unknown_name("contrast", str(contrast), ["runner_up", *labels])
    _check_background(job)
    return job


def build_job(content: dict[str, Any]) -> Job:
    """Build what a resolved configuration names; explainers that have a perturbation of their own are told in full.

    Raises:
        AssayError: a setting that somebody does not take.
    """
    recipe = copy.deepcopy(content)
    store = Store(content["results"])
    source: Source = registry.instantiate(content["task"])
    return Job(
        content=content,
        recipe=recipe,
        store=store,
        source=source,
        explainers={
            name: build_explainer(name, part, content["perturbations"]) for name, part in content["explainers"].items()
        },
        metrics={name: registry.instantiate(part) for name, part in content["metrics"].items()},
        perturbations={name: registry.instantiate(part) for name, part in content["perturbations"].items()},
        settings=Settings(
            content["feature"], content["target"], content["output"], content["seed"], content["contrast"]
        ),
    )


def _check_faults(content: Mapping[str, Any]) -> None:
    if not isinstance(content["isolate"], bool):
        raise AssayError(f"isolate must be true or false, not {content['isolate']!r}.")
    limit = content["time_limit"]
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < inf):
        raise AssayError(f"time_limit must be a number of seconds above 0, or null for none, not {limit!r}.")


def _check_background(job: Job) -> None:
    """See that the train split can be had, if someone wants to see it.

    Raises:
        AssayError: it cannot, and who wants it was named.
    """
    own = preparation.own_perturbations(job.explainers)
    explainers = [
        name
        for name, explainer in job.explainers.items()
        if explainer.background or (name in own and own[name].background)
    ]
    judges = [name for name, judge in job.judges.items() if judge.background]
    perturbations = [name for name, perturbation in job.perturbations.items() if perturbation.background]
    if not explainers and not judges and not perturbations:
        return
    try:
        _train_split(job)
    except AssayError as error:
        by_name = (explainers and not suite_is_chosen("explainer")) or (judges and not suite_is_chosen("metric"))
        if perturbations or by_name:
            raise
        reason = f"it wants to see the train split. {error}"
        job.leave_out(dict.fromkeys(explainers, reason))
        for name in judges:
            job.leave_out_metric(name, reason)


def _train_split(job: Job) -> Source:
    source: Source = registry.instantiate({**job.content["task"], "split": "train", "size": None})
    return source


def _whole_number(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise AssayError(f"{key} must be a whole number of at least 1, not {value!r}.")


def _command() -> str:
    """The command that leads to this job, as far as it is known; the same for any number of workers."""
    given = list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []
    overrides = [override for override in given if override.lstrip("+").partition("=")[0] not in OF_WORKERS]
    return " ".join(["assay run", *(shlex.quote(override) for override in overrides)])
