"""Composing the jobs of a sweep: what the chosen groups make together is worked out once, and not for every job."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from typing import Any
from unittest.mock import patch

from hydra._internal import config_loader_impl
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository
from hydra._internal.defaults_list import DefaultsList, Overrides, create_defaults_list
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig


@contextmanager
def composing_once() -> Iterator[None]:
    """Have Hydra build a configuration anew only where another member of a group is chosen.

    Jobs that differ in plain settings, such as seeds, have the same list of defaults and the same configuration before
    their overrides are applied. Hydra takes a third of a second for that where a job has forty explainers, twice a job.
    """
    lists: dict[tuple[Any, ...], DefaultsList] = {}
    composed: dict[int, bytes] = {}
    parsed: dict[tuple[str, str], Any] = {}
    repositories: dict[tuple[Any, ...], CachingConfigRepository] = {}
    parse = OverridesParser.parse_rule
    prepare = ConfigLoaderImpl._parse_overrides_and_create_caching_repo
    compose = ConfigLoaderImpl._compose_config_from_defaults_list
    check = Sweeper.validate_batch_is_legal
    copy_nodes = DictConfig.__deepcopy__

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
            jobs.setdefault(tuple(text for text, key in zip(job, keys, strict=True) if is_group(loader, key)), job)
        check(self, list(jobs.values()))

    @cache
    def is_group(loader: ConfigLoader, key: str) -> bool:
        return bool(loader.get_group_options(key))

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
        patch.object(DictConfig, "__deepcopy__", copied),
        patch.object(Sweeper, "validate_batch_is_legal", checked_once),
        patch.object(ConfigLoaderImpl, "_parse_overrides_and_create_caching_repo", prepared_once),
        patch.object(OverridesParser, "parse_rule", parsed_once),
        patch.object(config_loader_impl, "create_defaults_list", listed_once),
        patch.object(ConfigLoaderImpl, "_compose_config_from_defaults_list", composed_once),
    ):
        yield
