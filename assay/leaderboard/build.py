"""`assay leaderboard build`: from a results folder to files that can be published."""

from __future__ import annotations

import filecmp
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING

from assay.benchmark.cell import Cell
from assay.benchmark.store import Store
from assay.errors import AssayError
from assay.leaderboard.inventory import Group, inventory
from assay.leaderboard.placing import put, staging
from assay.leaderboard.protocol_summary import FILE, ProtocolSummary, read

if TYPE_CHECKING:
    from assay.leaderboard.submission import Method

# Another process takes about as long to start as so many cells take to be read.
CELLS_A_WORKER = 100
# Each holds the scores of one protocol, some hundred megabytes where there are 200 explainers.
WORKERS = 8


def build(results: str | Path, out: Path, workers: int = 1) -> Path:
    """Write the site: an overview, a folder for each protocol, a page for each explainer, and every table as data.

        index.html                  the overview
        protocols/<task>-<model>-<key>/
            index.html              tables, curves, examples, how to reproduce them
            examples.html           every example beside each other; its data is in `examples`
            summary.json            what the overview is made of
            scores.csv, .json, .md  what the leaderboard's files have under this protocol; scores.tex, its tables
            checksums.json          SHA-256 of every other file
        explainers/<name>.html      an explainer under every protocol
        leaderboard.csv, leaderboard.json, leaderboard.md, leaderboard.tex
        references.bib              the sources of what stands in the tables
        README.md                   for a static Space, where there is no other
        assets/                     style and script of all pages

    A protocol whose cells are those of the last time is not computed again. All files are made before the first is put
    in place; should that fail, what was there before is put back. Folders of protocols that are gone are removed, and
    other files in `out` are left alone.

    Args:
        results: a folder that `assay run` filled, or its URL.
        out: the folder to write into; made if it is not there.
        workers: processes among which protocols are shared, where there is enough to do for several. A program that
            asks for more than one must be safe to be imported, as `multiprocessing` says of its start method `spawn`.

    Returns:
        The path of `index.html`.

    Raises:
        AssayError: no such results folder, no finished cell in it, a damaged cell, or `out` cannot be written.
    """
    from assay.leaderboard.protocol_files import unchanged

    here, out = Store(results).fetch(), Path(out)
    groups, published = inventory(here, str(results)), _published(here)
    with staging(out) as staged:
        kept = {group.key: unchanged(out / "protocols" / group.folder, group.fingerprint) for group in groups}
        changed = [group for group in groups if kept[group.key] is None]
        _make_protocols(changed, groups, staged / "protocols", workers)
        places = {
            group.key: (staged if kept[group.key] is None else out) / "protocols" / group.folder for group in groups
        }
        summaries = [kept[group.key] or read(places[group.key] / FILE) for group in groups]
        fresh = [f"protocols/{group.folder}" for group in changed]
        fresh += _make_site(summaries, [places[group.key] for group in groups], published, staged, out)
        put(staged, out, fresh, [*_stale_protocols(out, groups), *_stale_explainers(staged, out, fresh)])
    return out / "index.html"


def load(results: str | Path) -> list[Cell]:
    """All finished cells, each checked against its checksums.

    Raises:
        AssayError: there is no such folder, it has no finished cell, or one of them is damaged.
    """
    return Store(results).checked_cells()


def _published(results: Path) -> Mapping[str, Method]:
    """Who answers for a cell that was submitted, by the cell's key."""
    if not any((results / name).exists() for name in ("submissions", "submission.json")):
        return {}  # what reads submissions takes seconds to import
    from assay.leaderboard.repository import published_methods

    return {cell.rpartition("-")[2]: method for cell, method in published_methods(results).items()}


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _make_protocols(changed: Sequence[Group], groups: Sequence[Group], target: Path, workers: int) -> None:
    from assay.leaderboard.protocol_files import make_protocol

    folders = {group.key: group.folder for group in groups}
    cells = sum(len(group.paths) for group in changed)
    workers = min(workers, WORKERS, len(changed), 1 + cells // CELLS_A_WORKER)
    # The largest first, so that no process is left with a large one at the end.
    waiting = sorted(changed, key=lambda group: -len(group.paths))
    tasks = [(group, {one["key"]: folders[one["key"]] for one in group.siblings}) for group in waiting]
    if workers <= 1:
        for group, own in tasks:
            make_protocol(group, own, target / group.folder)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _quiet)
    try:
        made = [pool.submit(make_protocol, group, own, target / group.folder) for group, own in tasks]
        for one in made:
            one.result()
        pool.shutdown()
    except BaseException as error:
        # Nobody waits for what the others would still make.
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
            process.join()
        if isinstance(error, BrokenProcessPool):
            raise AssayError(
                f"A process that was building a protocol has died, perhaps for want of memory. Try --workers 1. {error}"
            ) from error
        raise


def _quiet() -> None:
    """One thread for each process, and an interruption is the first process's business."""
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threadpool_limits(1)


def _make_site(
    summaries: Sequence[ProtocolSummary],
    places: Sequence[Path],
    published: Mapping[str, Method],
    staged: Path,
    out: Path,
) -> list[str]:
    """Make what stands above the protocols; the names of what is not there already, word for word."""
    made = []
    for name, pieces in _site_files(summaries, places, published, out):
        path = staged / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
        if not (out / name).is_file() or not filecmp.cmp(path, out / name, shallow=False):
            made.append(name)
    return made


def _site_files(
    summaries: Sequence[ProtocolSummary], places: Sequence[Path], published: Mapping[str, Method], out: Path
) -> Iterator[tuple[str, Iterable[str]]]:
    """What stands above the protocols, by name, in pieces."""
    from assay.leaderboard import bibliography, latex, space
    from assay.leaderboard.explainer_page import explainer_pages
    from assay.leaderboard.files import joined_csv, joined_json, joined_markdown
    from assay.leaderboard.overview import overview_page
    from assay.leaderboard.page import ASSETS, asset, navigation

    yield "index.html", [overview_page(summaries)]
    for name, text in explainer_pages(summaries, published).items():
        yield f"explainers/{name}", [text]
    for ending, join in (("csv", joined_csv), ("json", joined_json), ("md", joined_markdown)):
        yield f"leaderboard.{ending}", join([place / f"scores.{ending}" for place in places])
    yield "leaderboard.tex", [latex.overview_table(summaries)]
    yield "references.bib", [bibliography.site_references(summaries)]
    for name in ASSETS:
        yield f"assets/{name}", [asset(name)]
    yield "assets/navigation.js", [navigation(summaries)]
    readme = space.readme(out)
    if readme is not None:
        yield "README.md", [readme]


def _stale_protocols(out: Path, groups: Sequence[Group]) -> list[str]:
    """Folders that an earlier build has made of protocols whose cells are gone."""
    wanted = {group.folder for group in groups}
    stale = []
    for path in sorted((out / "protocols").glob(f"*/{FILE}")):
        if path.parent.name in wanted:
            continue
        try:
            ours = read(path).folder == path.parent.name
        except (OSError, ValueError):
            ours = False
        if ours:
            stale.append(f"protocols/{path.parent.name}")
    return stale


def _stale_explainers(staged: Path, out: Path, fresh: Sequence[str]) -> list[str]:
    """Pages of explainers that no protocol has any more."""
    made = {path.name for path in (staged / "explainers").glob("*.html")}
    return [f"explainers/{path.name}" for path in sorted((out / "explainers").glob("*.html")) if path.name not in made]
