"""`assay leaderboard`. As in `assay.command_line`, everything heavy is imported inside the command that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

leaderboard = typer.Typer(
    help="Publish results: a site, submissions, a repository of results.", no_args_is_help=True, rich_markup_mode=None
)

Results = Annotated[Path, typer.Argument(help="The results folder of assay run.")]


@leaderboard.command()
def build(
    results: Results,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    tracker: Annotated[str, typer.Option(help="Where to log it as a run of its own: wandb or none.")] = "wandb",
) -> None:
    """Compile results to CSV, JSON, Markdown and one self-contained page."""
    from assay import registry
    from assay.leaderboard.build import build as build_page

    chosen = registry.build("tracker", tracker)
    page = build_page(results, out)
    chosen.log_leaderboard(out)
    typer.echo(f"Leaderboard: {page}")


@leaderboard.command()
def show(
    results: Results,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Only this protocol: the beginning of its key.")] = None,
) -> None:
    """Print the tables: scores with intervals, skill, cost, and what is undefined."""
    from assay.benchmark.progress import console
    from assay.benchmark.selection import select
    from assay.benchmark.store import Store
    from assay.benchmark.table import terminal_table

    console.print(terminal_table(select(Store(results).checked_cells(), task, model, protocol)))
