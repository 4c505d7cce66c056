"""How every page of the site is made: templates, and a policy that lets a page load nothing from elsewhere."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

# `self` is the site's own folder, opened from a disk too.
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
ASSETS = ("site.css", "site.js")


def render(template: str, depth: int, **content: Any) -> str:
    """A page.

    Args:
        template: the name of its template.
        depth: how many folders below the site's it stands.
        content: what the template shows; all of it is escaped.
    """
    return _templates().get_template(template).render(policy=POLICY, root="../" * depth, **content)


def asset(name: str) -> str:
    """One of the files that all pages share."""
    return files("assay.leaderboard").joinpath("assets", name).read_text("utf-8")


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
