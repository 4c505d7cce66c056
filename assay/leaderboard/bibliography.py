"""The sources of the explainers and metrics that ship: `references.bib`, and what of it a leaderboard cites."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from assay.leaderboard.protocol_summary import ProtocolSummary

_ENTRY = re.compile(r"@(?P<kind>\w+)\{(?P<key>[^,\s]+),\n(?P<fields>.*?)\n\}\n", re.DOTALL)
_FIELD = re.compile(r"  (?P<name>\w+) = \{(?P<value>.*)\}")


@dataclass(frozen=True)
class Source:
    """A publication.

    Attributes:
        key: what it is cited by.
        text: its BibTeX entry.
        authors: their family names; `others` for those that are not named.
        year: of its publication.
        title: empty where it is not known.
        url: empty where it is not known.
        of: what it is the source of, such as `explainer:lime` or `metric:deletion`.
    """

    key: str
    text: str
    authors: tuple[str, ...]
    year: str
    title: str
    url: str
    of: tuple[str, ...]

    @property
    def short(self) -> str:
        """Authors and year, as a text cites them."""
        if len(self.authors) > 2 or "others" in self.authors:
            return f"{self.authors[0]} et al. {self.year}"
        return f"{' & '.join(self.authors)} {self.year}"


@cache
def sources() -> tuple[Source, ...]:
    """All that are known, by key."""
    found = []
    for entry in _ENTRY.finditer(files("assay.leaderboard").joinpath("references.bib").read_text("utf-8")):
        fields = {field["name"]: field["value"] for field in _FIELD.finditer(entry["fields"])}
        authors = tuple(author.split(",")[0].strip("{}") for author in fields["author"].split(" and "))
        title = fields.get("title", "").strip("{}").replace("``", "“").replace("''", "”")
        of = tuple(fields["keywords"].split(", "))
        found.append(Source(entry["key"], entry[0], authors, fields["year"], title, fields.get("url", ""), of))
    return tuple(found)


def cited(kind: str, name: str) -> list[Source]:
    """The sources of an explainer or a metric.

    Args:
        kind: `explainer` or `metric`.
        name: as it is called on the command line.
    """
    return [source for source in sources() if f"{kind}:{name}" in source.of]


def site_references(summaries: Iterable[ProtocolSummary]) -> str:
    """BibTeX of the sources of the explainers and metrics that stand in some protocols' tables, by key."""
    wanted: set[str] = set()
    for summary in summaries:
        wanted |= {f"metric:{name}" for name in summary.protocol.get("metrics", {})}
        wanted |= {f"explainer:{entry.explainer}" for hiding in summary.hidings for entry in hiding.entries}
    return "\n".join(source.text for source in sources() if wanted & set(source.of))
