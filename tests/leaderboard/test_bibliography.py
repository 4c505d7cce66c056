"""The bibliography against the registry and the docstrings; a site cites what stands in its tables and no more."""

from __future__ import annotations

import inspect
import re

import pytest

from assay import registry
from assay.leaderboard.bibliography import cited, site_references, sources
from assay.leaderboard.board import make_board
from assay.leaderboard.protocol_summary import summary_of
from tests.leaderboard.synthetic import protocol, write_cell

# These are nobody's: readers of position or length, chance, a search, a file, what a model costs.
WITHOUT_SOURCE = {
    *("explainer:first", "explainer:last", "explainer:length", "explainer:random", "explainer:oracle"),
    *("explainer:precomputed", "metric:cost"),
}


def everything() -> set[str]:
    return {f"{kind}:{name}" for kind in ("explainer", "metric") for name in registry.names(kind)}


def test_every_explainer_and_metric_that_ships_has_a_source() -> None:
    known = {one for source in sources() for one in source.of}
    assert known == everything() - WITHOUT_SOURCE


@pytest.mark.parametrize("source", sources(), ids=lambda source: source.key)
def test_a_source_is_the_one_that_the_docstrings_name(source) -> None:  # type: ignore[no-untyped-def]
    for one in source.of:
        kind, name = one.split(":")
        cls = registry.locate(registry.settings(kind, name)["_target_"])
        told = " ".join(f"{inspect.getdoc(cls)} {inspect.getdoc(inspect.getmodule(cls))}".split())
        assert re.search(rf"{source.authors[0]}\b.{{0,90}}\b{source.year}", told), one


def test_the_file_is_read_whole_and_its_keys_are_unique() -> None:
    from importlib.resources import files

    text = files("assay.leaderboard").joinpath("references.bib").read_text("utf-8")
    assert len(sources()) == text.count("\n@")
    assert len({source.key for source in sources()}) == len(sources())
    for source in sources():
        assert source.text.count("{") == source.text.count("}")
        assert re.fullmatch(r"@misc\{[a-z0-9]+,\n(  \w+ = \{.+\},\n)+  \w+ = \{.+\}\n\}\n", source.text)


def test_a_citation_is_short() -> None:
    assert cited("explainer", "lime")[0].short == "Ribeiro et al. 2016"
    assert cited("explainer", "lime")[0].title.startswith("“Why Should I Trust You?”")
    assert [source.short for source in cited("metric", "tau_loo")] == ["Jain & Wallace 2019"]
    assert cited("explainer", "nobody's") == []


def test_a_site_cites_what_stands_in_its_tables(tmp_path) -> None:  # type: ignore[no-untyped-def]
    cells = [write_cell(tmp_path, name, protocol(examples=4), 0.5) for name in ("lime", "mine", "random")]
    found = site_references([summary_of(make_board(cells, [{"key": "k", "protocol": cells[0].protocol}]), "")])
    assert {"ribeiro2016", "deyoung2020", "petsiuk2018", "jain2019"} == set(re.findall(r"@misc\{(\w+),", found))
