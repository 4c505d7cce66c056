"""Results that several tests read, and the leaderboards built from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from assay.leaderboard.build import build
from tests.leaderboard.synthetic import write_results


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
