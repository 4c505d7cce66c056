"""The README.md that makes a site's folder a Space, and leaves another alone."""

from __future__ import annotations

from pathlib import Path

import yaml

from assay.leaderboard.space import readme


def test_the_front_matter_is_that_of_a_static_space(tmp_path: Path) -> None:
    text = readme(tmp_path)
    assert text is not None
    matter = yaml.safe_load(text.split("---\n")[1])
    assert (matter["sdk"], matter["app_file"]) == ("static", "index.html")
    assert len(matter["short_description"]) <= 60


def test_a_readme_of_its_own_is_written_again_and_any_other_left_alone(tmp_path: Path) -> None:
    text = readme(tmp_path)
    assert text is not None
    (tmp_path / "README.md").write_text(text, "utf-8")
    assert readme(tmp_path) == text
    (tmp_path / "README.md").write_text("# Results of my group\n", "utf-8")
    assert readme(tmp_path) is None
    (tmp_path / "README.md").write_bytes(b"\xff\xfe not text")
    assert readme(tmp_path) is None


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text(str(readme(tmp_path)), "utf-8")
    (tmp_path / "README.md").symlink_to(tmp_path / "other.md")
    assert readme(tmp_path) is None
