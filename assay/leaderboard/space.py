"""A site as a static Space of Hugging Face: the README.md that makes a folder one."""

from __future__ import annotations

from pathlib import Path

README = "README.md"
_MADE = "<!-- Made by `assay leaderboard build`. Without this line the file is yours, and is left alone. -->"


def readme(out: Path) -> str | None:
    """The README.md of the site's folder; None where one stands that is not the site's, such as a repository's.

    Its first lines are what Hugging Face reads: the folder is a Space that serves its files as they are.

    Args:
        out: the folder that the site is written into.
    """
    standing = out / README
    # A link is somebody's own doing, and what it leads to is not the site's.
    if standing.is_symlink() or (standing.exists() and _MADE not in standing.read_text("utf-8", errors="replace")):
        return None
    return f"""---
title: Assay leaderboard
emoji: 🔍
colorFrom: blue
colorTo: gray
sdk: static
app_file: index.html
pinned: false
short_description: Faithfulness of explanations of text classifiers
---

{_MADE}

# Assay leaderboard

Which explanations of text classifiers name what the model really used? Open `index.html`, here or on any static host.
The tables as data: `leaderboard.csv`, `leaderboard.json`, `leaderboard.md`, `leaderboard.tex`. The sources of the
methods and metrics: `references.bib`.
"""
