"""Results that several tests read, the leaderboards built from them, and visits of their pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.leaderboard.build import build
from tests.leaderboard.synthetic import write_results

Visit = Callable[..., Any]


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three protocols; nothing in here may change them."""
    return write_results(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def built(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the leaderboard."""
    return build(results, tmp_path_factory.mktemp("out") / "site").parent


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a leaderboard whose names and words are markup."""
    return build(
        write_results(tmp_path_factory.mktemp("hostile"), hostile=True), tmp_path_factory.mktemp("site")
    ).parent


@pytest.fixture
def visit(browser: Any) -> Iterator[Visit]:
    """Opens a page of a site. At the end nothing may have been said in the console or asked of anybody else."""
    opened: list[tuple[Any, Path, list[str], list[str]]] = []

    def open_page(site: Path, path: str, width: int = 1200, scheme: str = "light", **context: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, **context)
        troubles: list[str] = []
        requests: list[str] = []

        def refuse(dialog: Any) -> None:
            troubles.append("a dialog")
            dialog.dismiss()

        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", refuse)
        page.on("request", lambda request: requests.append(request.url))
        page.set_default_timeout(20_000)
        place, _, fragment = path.partition("#")
        (file,) = site.glob(place)
        page.goto(file.as_uri() + (f"#{fragment}" if fragment else ""))
        opened.append((page, site, troubles, requests))
        return page

    yield open_page
    for page, site, troubles, requests in opened:
        page.close()
        assert troubles == []
        assert requests
        assert all(request.startswith(site.as_uri() + "/") for request in requests)
