"""How every page of the site is made: templates, and a policy that lets a page load nothing from elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from assay.digests import digest
from assay.highlight import stylesheet
from assay.leaderboard.text import clean

if TYPE_CHECKING:
    from jinja2 import Environment

    from assay.leaderboard.protocol_summary import ProtocolSummary

# `self` is the site's own folder, opened from a disk too.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
ASSETS = ("site.css", "scripted.js", "site.js", "examples.js")


def render(template: str, depth: int, **content: Any) -> str:
    """A page.

    Args:
        template: the name of its template.
        depth: how many folders below the site's it stands.
        content: what the template shows; all of it is escaped.
    """
    return _templates().get_template(template).render(policy=POLICY, root="../" * depth, **content)


def asset(name: str) -> str:
    """One of the files that all pages share; the style sheet ends with the colours of words."""
    text = files("assay.leaderboard").joinpath("assets", name).read_text("utf-8")
    return f"{text}{stylesheet()}\n" if name == "site.css" else text


def page_name(name: str) -> str:
    """The name of an explainer's page in `explainers`, without its ending.

    It follows from the explainer's name alone; no two names share one, nor on disks that do not tell cases apart.
    """
    plain = re.sub(r"[^a-z0-9_]+", "-", name.lower()).strip("-")[:60]
    return plain if plain == name and "-" not in plain else f"{plain}-{digest(name)[:8]}".strip("-")


def navigation(summaries: Sequence[ProtocolSummary]) -> str:
    """The script that tells every page which others there are, so that a new one changes none of the old."""
    from assay.leaderboard.protocols import short_names

    notes: dict[str, str] = {}
    for subject in {(summary.task, summary.model) for summary in summaries}:
        namesakes = [one for one in summaries if (one.task, one.model) == subject]
        presets = [one.protocol.get("preset") for one in namesakes]
        notes |= short_names([one.key for one in namesakes], presets)
    names = {entry.explainer for one in summaries for hiding in one.hidings for entry in hiding.entries}
    content = {
        "protocols": [
            [f"{clean(one.task, 60)} × {clean(one.model, 80)}", notes[one.key], one.folder] for one in summaries
        ],
        "explainers": [[clean(name), page_name(name)] for name in sorted(names)],
    }
    return f"assayNavigation({json.dumps(content)});\n"


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("assay", "leaderboard/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
