"""`assay leaderboard`. As in `assay.command_line`, everything heavy is imported inside the command that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from assay.errors import AssayError, unknown_name

leaderboard = typer.Typer(
    help="Publish results: a site, submissions, a repository of results.", no_args_is_help=True, rich_markup_mode=None
)

Results = Annotated[str, typer.Argument(help="The results folder of assay run, or its URL.")]


@leaderboard.command()
def build(
    results: Results,
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    tracker: Annotated[str, typer.Option(help="Where to log it as a run of its own: wandb or none.")] = "wandb",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the protocols; by default one for each processor.")
    ] = None,
) -> None:
    """Compile results to a site and to CSV, JSON and Markdown; only protocols with new cells are computed again."""
    from assay import registry
    from assay.leaderboard.build import build as build_page
    from assay.leaderboard.build import cores

    chosen = registry.build("tracker", tracker)
    page = build_page(results, out, workers or cores())
    chosen.log_leaderboard(out, results)
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


@leaderboard.command()
def submit(
    results: Results,
    explainer: Annotated[str, typer.Option(help="The explainer to submit, by its name in the results.")],
    name: Annotated[str, typer.Option(help="What the method is called, as tables show it.")],
    link: Annotated[str, typer.Option(help="Where it is described: http:// or https://.")],
    citation: Annotated[str, typer.Option(help="How it is cited: a BibTeX file, or text.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder to make; by default submission-EXPLAINER.")
    ] = None,
    key: Annotated[
        list[str] | None, typer.Option(help="Of several cells under one protocol: the one to submit.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Under which you share the results.")] = None,
    submitter: Annotated[str | None, typer.Option(help="Who submits.")] = None,
) -> None:
    """Make a submission: a folder with all cells of one explainer and the controls beside it."""
    from assay.benchmark.store import slug
    from assay.leaderboard.submission import cited
    from assay.leaderboard.submission import submit as make_submission

    method = {"name": name, "link": link, "citation": cited(citation), "licence": licence, "submitter": submitter}
    folder = out or Path(f"submission-{slug(explainer)}")
    _, cells = make_submission(results, explainer, method, folder, key or ())
    for cell in cells:
        task, model = cell.protocol["task"], cell.protocol["model"]
        protocol = str(cell.meta["protocol_key"])[:8]
        typer.echo(f"{task['name']} × {model['name']} (protocol {protocol}): {task['examples']} examples")
    typer.echo(f"Submission: {folder} ({len(cells)} cells). Check it: assay leaderboard check {folder}")


@leaderboard.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A submission, or a repository of results.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Where task and model are here: task.path=FOLDER, model.path=FOLDER, device=cpu."),
    ] = None,
    share: Annotated[float, typer.Option(help="Of the examples that the model is asked about again.")] = 0.2,
    everything: Annotated[bool, typer.Option("--all", help="Ask the model about all examples.")] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws the share; by default a fresh one, which is shown.")
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="For a repository: an older state; only what is new is asked.")
    ] = None,
    model: Annotated[bool, typer.Option("--model/--no-model", help="Whether to ask the model at all.")] = True,
) -> None:
    """Check a submission or a repository: exit code 0 if it holds, 1 if it does not, 2 if it cannot be checked here."""
    from assay.leaderboard.checking import check_submission
    from assay.leaderboard.recomputing import Here
    from assay.leaderboard.repository import check_repository

    here = Here(**_places(overrides or []))
    share = 1.0 if everything else share
    if (folder / "results").is_dir() and not (folder / "submission.json").exists():
        report = check_repository(folder, base, here, share, seed, model)
    elif base is not None:
        raise AssayError(f"--base is for repositories, and {str(folder)!r} has no folder results.")
    else:
        report = check_submission(folder, here, share, seed, model)
    for note in report.notes:
        typer.echo(note)
    for fault in report.faults:
        typer.echo(f"Refused: {fault}", err=True)
    typer.echo("It holds." if report.holds else f"It does not hold: {len(report.faults)} faults.")
    raise typer.Exit(0 if report.holds else 1)


@leaderboard.command()
def init(folder: Annotated[Path, typer.Argument(help="The folder to lay out.")]) -> None:
    """Lay out a repository of results, with workflows that check pull requests and publish the site."""
    from assay.leaderboard.repository import init as lay_out

    for place in lay_out(folder):
        typer.echo(str(folder / place))


@leaderboard.command()
def accept(
    submission: Annotated[Path, typer.Argument(help="The submission.")],
    repository: Annotated[Path, typer.Argument(help="A checkout of the repository of results.")],
) -> None:
    """Copy a submission's cells into a repository of results, for a pull request."""
    from assay.leaderboard.repository import accept as take_in

    for place in take_in(submission, repository):
        typer.echo(str(repository / place))


def _places(overrides: list[str]) -> dict[str, str]:
    """What was said about where task and model are."""
    known = {"task.path": "task_path", "model.path": "model_path", "device": "device"}
    found = {}
    for override in overrides:
        name, equals, value = override.partition("=")
        if not equals or not value:
            raise AssayError(f"Cannot understand {override!r}. Write, for example, model.path=FOLDER.")
        if name not in known:
            raise unknown_name("setting", name, known)
        found[known[name]] = value
    return found
