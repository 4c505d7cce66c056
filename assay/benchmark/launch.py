"""From a command line to jobs: compose and check every one, then hand them to Hydra's launcher."""

from __future__ import annotations

import gc
import hashlib
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra import initialize_config_module
from hydra._internal.hydra import Hydra
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from assay import registry
from assay.benchmark import launchers
from assay.benchmark.composing import composing_once
from assay.benchmark.launchers import Home, WorkerDied
from assay.benchmark.store import Store
from assay.benchmark.workers import OF_WORKERS, Worker, at_work
from assay.errors import AssayError, near_matches
from assay.plain_text import clean_lines

_OWN_PERTURBATION = re.compile(r"explainers\.[^.=]+\.perturbation[.=]")

SUITES = {"explainer": "all", "metric": "full"}
"""Names that stand for every member of a group."""


@dataclass(frozen=True)
class Report:
    """How one job ended: the paths of its cells, or what went wrong, and whether that was in another process.

    `results` is where its cells go, as its configuration has it; None where it has none.
    """

    cells: tuple[str, ...] = ()
    results: str | None = None
    error: str | None = None
    bad_input: bool = False
    elsewhere: bool = False


def launch(
    config_name: str,
    job: Callable[[DictConfig], list[str]],
    arguments: Sequence[str],
    sweep: bool,
    spread: bool = False,
) -> list[Report]:
    """Run a job, or with `sweep` one for each combination of the values given.

    A job that fails does not stop the others.

    Args:
        config_name: the primary configuration, `run` or `train`.
        job: what to do; returns the paths that it made.
        arguments: Hydra overrides, such as `task=sst2` or `task=sst2,mnli`.
        sweep: whether commas and an experiment's own parameters make a sweep.
        spread: whether jobs may run in other processes, so that what they return is all that comes back; with
            `workers=N` each of them runs N times, and its workers share the work.

    Raises:
        AssayError: an override that cannot be understood, a combination that cannot be composed, or a launcher that
            lacks something.
    """
    with _composer(config_name, arguments) as (hydra, overrides):
        # An experiment may ask for a sweep on its own.
        sweep = sweep or hydra.get_mode(config_name, list(overrides)) == RunMode.MULTIRUN
        # The jobs of one command belong together, also when it is given again to resume.
        named = "\n".join(sorted(override for override in overrides if not _says_who_computes(override)))
        guarded = _Guarded(job, hashlib.sha256(named.encode()).hexdigest()[:8] if sweep else None, Home.here())
        config = _compose(config_name, [_first_value(override) for override in parse(overrides)])
        if "results" in config and (sweep or spread):
            # Before anything makes folders there, or starts workers.
            store = Store(config.results)
            store.prepare()
            if store.name != str(store.root):
                overrides = [*overrides, f"hydra.sweep.dir={_quoted(str(store.root / '.hydra'))}"]
                config = _compose(config_name, [_first_value(override) for override in parse(overrides)])
        if not spread:
            here = ["hydra/launcher=basic"] if sweep else []
            return _launched(hydra, config_name, guarded, [*overrides, *here], sweep)
        workers = _workers(config, overrides)
        added = launchers.prepare(config, workers)
        several = workers > 1 or launchers.chosen(config) != launchers.SERIAL
        if several and not sweep and any(override.is_sweep_override() for override in parse(overrides)):
            raise AssayError("Several values for one setting make a sweep: give -m.")
        if workers > 1:
            added.append(f"worker={','.join(str(number) for number in range(workers))}")
        try:
            reports = _launched(hydra, config_name, guarded, [*overrides, *added], sweep or several)
        except WorkerDied as death:
            text = f"{death} {launchers.spelled(config_name, arguments, sweep)}"
            print(f"Error: {clean_lines(text)}", file=sys.stderr, flush=True)
            return [Report(error=text)]
        together = [_together(reports[first : first + workers]) for first in range(0, len(reports), workers)]
        return [_here(report) for report in together]


def _quoted(text: str) -> str:
    """A text as the value of an override."""
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{quoted}'"


def _launched(
    hydra: Hydra, config_name: str, job: Callable[[DictConfig], Report], overrides: list[str], several: bool
) -> list[Report]:
    with _spared_collector():
        if several:
            return launchers.multirun(hydra, config_name, job, overrides)
        report: Report = hydra.run(config_name, job, overrides, with_log_configuration=False).return_value
        return [report]


@contextmanager
def _spared_collector() -> Iterator[None]:
    """Keep the garbage collector from looking again and again at what was imported, which is most of what there is."""
    # Some versions of Python freeze a few hundred objects of their own.
    own = gc.get_freeze_count() < 10_000
    if own:
        gc.freeze()
    try:
        yield
    finally:
        if own:
            gc.unfreeze()


def _says_who_computes(override: str) -> bool:
    key = override.lstrip("+~").partition("=")[0]
    return key in (*OF_WORKERS, "hydra/launcher") or key.startswith("hydra.launcher.")


def _workers(config: DictConfig, overrides: Sequence[str]) -> int:
    """How many times each job is launched.

    Raises:
        AssayError: not a number, or the sweep is not Hydra's own, so that its jobs are not known beforehand.
    """
    if any(one.is_sweep_override() and one.key_or_group in OF_WORKERS for one in parse(overrides)):
        raise AssayError("workers is a single number, and so is worker: all jobs of a command have as many.")
    worker = Worker.of(config)
    if config.get("worker") is not None:
        # Another scheduler has started this process as one of them.
        return 1
    count: int = config.get("workers", worker.count)
    if count > 1 and str(config.hydra.runtime.choices["hydra/sweeper"]) != "basic":
        raise AssayError(f"workers={count} needs Hydra's basic sweeper; another one decides on jobs as it goes.")
    return count


def _together(reports: Sequence[Report]) -> Report:
    """How a job ended that several workers have shared: well, if one of them has seen its end."""
    failed = [report for report in reports if report.error]
    if len(failed) == len(reports):
        first = next((report for report in failed if not report.bad_input), failed[0])
        if first.elsewhere:
            print(f"Error: {clean_lines(str(first.error))}", file=sys.stderr, flush=True)
        return first
    for report in failed:
        print(f"A worker failed, and the others did its share: {clean_lines(str(report.error))}", file=sys.stderr)
    return replace(
        next(report for report in reports if not report.error),
        cells=tuple(dict.fromkeys(cell for report in reports for cell in report.cells)),
    )


def _here(report: Report) -> Report:
    """A report whose cells this machine can read: those that another has put at a URL are brought."""
    if report.results is None or all(Path(cell).exists() for cell in report.cells):
        return report
    root = Store(report.results).fetch()
    return replace(report, cells=tuple(str(root.joinpath(*Path(cell).parts[-3:])) for cell in report.cells))


@dataclass(frozen=True)
class _Guarded:
    """A job whose failure is its report, here or in another process.

    Attributes:
        job: what to do.
        sweep_name: what a sweep is told as its name, unless the user gave it one.
        home: where the command was given.
    """

    job: Callable[[DictConfig], list[str]]
    sweep_name: str | None
    home: Home

    def __call__(self, config: DictConfig) -> Report:
        """Do the job."""
        if "sweep" in config and config.sweep is None:
            config.sweep = self.sweep_name
        elsewhere = self.home.left
        try:
            if elsewhere:
                self.home.enter()
            with at_work(Worker.of(config), self.home.threads):
                results = str(config.results) if "results" in config else None
                return Report(tuple(self.job(config)), results)
        except AssayError as error:
            if not elsewhere:
                print(f"Error: {clean_lines(error)}", file=sys.stderr, flush=True)
            return Report(error=str(error), bad_input=True, elsewhere=elsewhere)
        except Exception as error:
            traceback.print_exc()
            return Report(error=f"{type(error).__name__}: {error}", elsewhere=elsewhere)


def suite_is_chosen(group: str) -> bool:
    """Whether the members of a group were not named one by one, so that those that cannot work here are left out."""
    return HydraConfig.initialized() and HydraConfig.get().runtime.choices.get(group) == SUITES[group]


def show(config_name: str, arguments: Sequence[str]) -> str:
    """The composed configuration as YAML, the first values of a sweep taken.

    Raises:
        AssayError: as `launch` does.
    """
    return OmegaConf.to_yaml(compose(config_name, arguments))


def compose(config_name: str, arguments: Sequence[str]) -> DictConfig:
    """The composed configuration, the first values of a sweep taken.

    Raises:
        AssayError: as `launch` does.
    """
    with _composer(config_name, arguments) as (_, overrides):
        config = _compose(config_name, [_first_value(override) for override in parse(overrides)])
        return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


@contextmanager
def _composer(config_name: str, arguments: Sequence[str]) -> Iterator[tuple[Hydra, list[str]]]:
    """Hydra over Assay's configuration, and overrides that have been checked."""
    overrides = [_own_perturbation(_model_by_path(argument)) for argument in arguments]
    for group, suite in SUITES.items():
        members = {"defaults": registry.names_with_defaults(group)}
        ConfigStore.instance().store(group=group, name=suite, node=members, package="_global_", provider="assay")
    with initialize_config_module("assay.conf", job_name="assay", version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        launchers.use_own_presets()
        with composing_once():
            _check(config_name, overrides)
            yield hydra, overrides


def _model_by_path(argument: str) -> str:
    """Let `model=some/path` stand for `model.path=some/path`: no member of the group has a slash in its name."""
    key, equals, value = argument.partition("=")
    return f"model.path={value}" if key == "model" and equals and "/" in value else argument


def _own_perturbation(argument: str) -> str:
    """Let an explainer be given the setting that all black-box explainers share and no YAML file lists."""
    return f"++{argument}" if _OWN_PERTURBATION.match(argument) else argument


def _check(config_name: str, overrides: Sequence[str]) -> None:
    """Compose once with every value that can be wrong, so that a misspelt one shows before any job has run."""
    parsed = parse(overrides)
    _check_groups(parsed)
    single = [_first_value(override) for override in parsed]
    _compose(config_name, single)
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    for place, override in enumerate(parsed):
        key = override.key_or_group
        # Any value of a plain setting composes as the first does, and of a thousand seeds each would take its time.
        if key.startswith("hydra") or hydra.config_loader.get_group_options(key):
            for value in _values(override)[1:]:
                _compose(config_name, [*single[:place], value, *single[place + 1 :]])


def parse(overrides: Sequence[str]) -> list[Override]:
    """The overrides as Hydra reads them.

    Raises:
        AssayError: one that cannot be understood.
    """
    parser = OverridesParser.create()
    parsed: list[Override] = []
    for text in overrides:
        try:
            parsed.append(parser.parse_override(text))
        except (OverrideParseException, HydraException) as error:
            raise AssayError(
                f"Cannot understand {text!r}. An override is written key=value, for example task=sst2 or task.size=200."
            ) from error
    return parsed


def _values(override: Override) -> list[str]:
    """The override with each of its values alone."""
    if not override.is_sweep_override():
        return [str(override.input_line)]
    prefix = str(override.input_line).partition("=")[0]
    return [f"{prefix}={value}" for value in override.sweep_string_iterator()]


def _first_value(override: Override) -> str:
    return _values(override)[0]


def _compose(config_name: str, overrides: list[str]) -> DictConfig:
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    try:
        return hydra.compose_config(config_name, overrides, run_mode=RunMode.RUN, with_log_configuration=False)
    except (ConfigCompositionException, MissingConfigException, HydraException) as error:
        raise AssayError(_explained(config_name, overrides, error)) from error


def _check_groups(parsed: Sequence[Override]) -> None:
    """Check the names chosen from a group against its members."""
    hydra = GlobalHydra.instance().hydra
    assert hydra is not None
    for override in parsed:
        group = override.key_or_group
        options = hydra.config_loader.get_group_options(group)
        if not options or override.is_delete():
            continue
        for text in _values(override):
            value = OmegaConf.create([f"x={text.partition('=')[2]}"])[0].removeprefix("x=")
            for name in value.strip("[]").split(","):
                name = name.strip().strip("'\"")
                if name and name not in options and name != "null":
                    raise AssayError(f"Unknown {group} {name!r}. {near_matches(name, options)}")


def _explained(config_name: str, overrides: list[str], error: Exception) -> str:
    """What was wrong with an override, with near matches for its key."""
    first = str(error).splitlines()[0]
    if not first.startswith("Could not override"):
        return first
    key = first.split("'")[1]
    bad = next((text for text in overrides if text.lstrip("+~").partition("=")[0].partition("@")[0] == key), None)
    rest = [text for text in overrides if text != bad]
    parent, _, leaf = key.rpartition(".")
    try:
        config = _compose(config_name, rest)
    except AssayError:
        return first
    place: Any = OmegaConf.select(config, parent) if parent else config
    while not isinstance(place, DictConfig) and parent:
        parent, _, leaf = parent.rpartition(".")
        place = OmegaConf.select(config, parent) if parent else config
    given = None if bad is None else parse([bad])[0].value()
    if isinstance(given, dict) and isinstance(OmegaConf.select(config, key), DictConfig):
        # Several settings at once, written as a mapping: one of them is not there.
        parent, place = key, OmegaConf.select(config, key)
        leaf = next((str(name) for name in given if name not in place), leaf)
    known = [str(name) for name in place if name != "hydra"] if isinstance(place, DictConfig) else []
    where = f"{parent} has no setting" if parent else "There is no setting"
    hint = near_matches(leaf, known)
    if parent in ("explainers", "metrics", "perturbations") and leaf in registry.names(parent[:-1]):
        hint = f"Choose it first: {parent[:-1]}=[{','.join([*known, leaf])}]."
    return f"{where} {leaf!r}. {hint}"


def exit_code(reports: Sequence[Report]) -> int:
    """0 if every job ended well, 2 if one was given bad input, 1 if one crashed."""
    if any(report.error and not report.bad_input for report in reports):
        return 1
    return 2 if any(report.error for report in reports) else 0
