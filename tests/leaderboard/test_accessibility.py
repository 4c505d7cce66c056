"""What axe-core finds on each kind of page, in both colour schemes and on a narrow screen."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.leaderboard.conftest import Visit

PAGES = ("index.html", "protocols/mnli-*/index.html", "protocols/mnli-*/examples.html", "explainers/lime.html")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 400)])
@pytest.mark.parametrize("path", PAGES)
def test_axe_finds_nothing(visit: Visit, built: Path, path: str, scheme: str, width: int) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
    page = visit(built, path, width=width, scheme=scheme)
    page.evaluate("document.querySelectorAll('main details:not(.menu)').forEach((part) => { part.open = true; })")
    # Without `preload`, axe asks for nothing itself, which the site's policy would refuse.
    found = axe.Axe().run(page, options={"preload": False}).response["violations"]
    assert [(one["impact"], one["id"], one["nodes"][0]["html"]) for one in found] == []
