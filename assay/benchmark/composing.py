"""Composing the jobs of a sweep: what the chosen groups make together is worked out once, and not for every job."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig

# Each has some 50 kB; a sweep goes over the values of one setting before it comes to the next.
_MOST_TEMPLATES = 100


@contextmanager
def composing_once() -> Iterator[None]:
    """Have Hydra build a configuration anew only where another member of a group is chosen.

    Jobs that differ in plain settings, such as seeds, have the same list of defaults and the same configuration before
    their overrides are applied. Hydra takes a third of a second for that where a job has forty explainers, twice a job.
    Jobs that differ in nothing but the values of the same settings are one configuration, with those values put in.
    """
    templates: dict[tuple[Any, ...], _Template] = {}
    members: dict[str, list[str]] = {}
    lists: dict[tuple[Any, ...], DefaultsList] = {}
    composed: dict[int, bytes] = {}
    parsed: dict[tuple[str, str], Any] = {}
    repositories: dict[tuple[Any, ...], CachingConfigRepository] = {}
    parse = OverridesParser.parse_rule
    options = ConfigLoaderImpl.get_group_options
    load = ConfigLoaderImpl._load_configuration_impl
    prepare = ConfigLoaderImpl._parse_overrides_and_create_caching_repo
    compose = ConfigLoaderImpl._compose_config_from_defaults_list
    check = Sweeper.validate_batch_is_legal
    copy_nodes = DictConfig.__deepcopy__

    def loaded_once(
        self: ConfigLoaderImpl, config_name: str | None, overrides: list[str], run_mode: RunMode, **how: Any
    ) -> DictConfig:
        given = OverridesParser.create().parse_overrides(overrides=overrides)
        free = [place for place in _single_values(given) if not self.get_group_options(str(given[place].key_or_group))]
        lines = [str(one.key_or_group) if place in free else one.input_line for place, one in enumerate(given)]
        key = (config_name, run_mode, tuple(how.items()), os.getcwd(), tuple(free), tuple(lines))
        if key in templates:
            return templates[key].filled(given)
        config = load(self, config_name, overrides, run_mode, **how)
        if len(templates) >= _MOST_TEMPLATES:
            del templates[next(iter(templates))]
        templates[key] = _Template(given, free, pickle.dumps(config))
        return config

    def listed_once(
        repo: Any, config_name: str | None, overrides_list: Sequence[Override], prepend_hydra: bool, skip_missing: bool
    ) -> DefaultsList:
        own = Overrides(repo=repo, overrides_list=list(overrides_list)).config_overrides
        plain = {id(override) for override in own if not override.key_or_group.startswith("hydra")}
        chosen = tuple(str(override.input_line) for override in overrides_list if id(override) not in plain)
        key = (config_name, chosen, prepend_hydra, skip_missing)
        if key not in lists:
            # What composing has made of the files that were read is for that one configuration.
            repo.cache.clear()
            lists[key] = create_defaults_list(repo, config_name, list(overrides_list), prepend_hydra, skip_missing)
        return replace(lists[key], config_overrides=own)

    def composed_once(self: ConfigLoaderImpl, defaults: Any, repo: Any) -> DictConfig:
        if id(defaults) not in composed:
            composed[id(defaults)] = pickle.dumps(compose(self, defaults, repo))
        found: DictConfig = pickle.loads(composed[id(defaults)])
        return found

    def copied(self: DictConfig, memo: dict[int, Any]) -> DictConfig:
        # Hydra copies a job's configuration several times; node by node that takes five times as long.
        if memo:
            return copy_nodes(self, memo)
        inner = vars(self)
        parent, inner["_parent"] = inner["_parent"], None
        try:
            found: DictConfig = pickle.loads(pickle.dumps(self))
        finally:
            inner["_parent"] = parent
        vars(found)["_parent"] = parent
        return found

    def checked_once(self: Sweeper, batch: Sequence[Sequence[str]]) -> None:
        # Any value of a plain setting composes as the first does.
        loader = GlobalHydra.instance().config_loader()
        jobs: dict[tuple[str, ...], Sequence[str]] = {}
        for job in batch:
            keys = [text.lstrip("+~").partition("=")[0].partition("@")[0] for text in job]
            chosen = [text for text, key in zip(job, keys, strict=True) if loader.get_group_options(key)]
            jobs.setdefault(tuple(chosen), job)
        check(self, list(jobs.values()))

    def options_once(self: ConfigLoaderImpl, group_name: str, *how: Any, **named: Any) -> list[str]:
        if how or named:
            return options(self, group_name, *how, **named)
        if group_name not in members:
            members[group_name] = options(self, group_name)
        return members[group_name]

    def parsed_once(self: OverridesParser, text: str, rule: str) -> Any:
        if (text, rule) not in parsed:
            parsed[text, rule] = parse(self, text, rule)
        return copy.copy(parsed[text, rule])

    def prepared_once(
        self: ConfigLoaderImpl, config_name: str | None, overrides: list[str]
    ) -> tuple[list[Override], CachingConfigRepository]:
        # Where configurations are searched for is a setting of Hydra's own.
        key = (config_name, *(override for override in overrides if override.lstrip("+~").startswith("hydra")))
        if key not in repositories:
            found, repositories[key] = prepare(self, config_name, overrides)
            return found, repositories[key]
        return OverridesParser.create().parse_overrides(overrides=overrides), repositories[key]

    with (
        patch.object(ConfigLoaderImpl, "get_group_options", options_once),
        patch.object(ConfigLoaderImpl, "_load_configuration_impl", loaded_once),
        patch.object(DictConfig, "__deepcopy__", copied),
        patch.object(Sweeper, "validate_batch_is_legal", checked_once),
        patch.object(ConfigLoaderImpl, "_parse_overrides_and_create_caching_repo", prepared_once),
        patch.object(OverridesParser, "parse_rule", parsed_once),
        patch.object(config_loader_impl, "create_defaults_list", listed_once),
        patch.object(ConfigLoaderImpl, "_compose_config_from_defaults_list", composed_once),
    ):
        yield


def _single_values(overrides: Sequence[Override]) -> list[int]:
    """The places of overrides that give a setting of Assay's a single value, and have nothing to do with the others."""
    keys = [str(override.key_or_group) for override in overrides]

    def alone(place: int) -> bool:
        own = f"{keys[place]}."
        others = [f"{key}." for key in (*keys[:place], *keys[place + 1 :])]
        return not any(own.startswith(other) or other.startswith(own) for other in others)

    return [
        place
        for place, override in enumerate(overrides)
        if override.type == OverrideType.CHANGE
        and override.package is None
        and not keys[place].startswith("hydra")
        and isinstance(override.value(), int | float | str | None)
        and alone(place)
    ]


@dataclass(frozen=True)
class _Template:
    """A composed configuration, from which others are made that differ in single values.

    Attributes:
        given: the overrides that it has.
        free: the places of those that may have other values.
        content: it, pickled.
    """

    given: Sequence[Override]
    free: Sequence[int]
    content: bytes

    def filled(self, overrides: Sequence[Override]) -> DictConfig:
        """The configuration that as many other overrides compose to."""
        config: DictConfig = pickle.loads(self.content)
        changed = [place for place in self.free if overrides[place].input_line != self.given[place].input_line]
        ConfigLoaderImpl._apply_overrides_to_config([overrides[place] for place in changed], config)
        of_task = [place for place, override in enumerate(overrides) if not override.is_hydra_override()]
        for place in changed:
            config.hydra.overrides.task[of_task.index(place)] = overrides[place].input_line
        spelt = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=[overrides[place] for place in of_task],
            kv_sep=spelt.kv_sep,
            item_sep=spelt.item_sep,
            exclude_keys=spelt.exclude_keys,
        )
        return config
