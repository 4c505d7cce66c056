"""The command line. Everything heavy is imported inside the command that needs it, so that help answers at once."""

from __future__ import annotations

import errno
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from assay.errors import AssayError
from assay.interruption import Interrupted, end_workers, interruptible
from assay.leaderboard.command_line import leaderboard
from assay.plain_text import clean_lines

if TYPE_CHECKING:
    from omegaconf import DictConfig

app = typer.Typer(
    help="Assay tests explanations of text classifiers: do they name what the model really used?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
export = typer.Typer(help="Write results in other tools' formats.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(export, name="export")
app.add_typer(leaderboard, name="leaderboard")

GROUPS = {
    "explainers": "explainer",
    "metrics": "metric",
    "tasks": "task",
    "models": "model",
    "perturbations": "perturbation",
    "protocols": "protocol",
}

MOST_IN_TABLES = 500
"""Cells whose tables are printed at the end of a run."""

Overrides = Annotated[
    list[str] | None, typer.Argument(help="Hydra overrides, such as task=sst2 model=PATH explainer=[lime,attention].")
]
Sweep = Annotated[bool, typer.Option("--multirun", "-m", help="Run every combination of the values given by commas.")]
ShowConfig = Annotated[bool, typer.Option("--show-config", help="Print the composed configuration and stop.")]


@app.command()
def run(
    overrides: Overrides = None,
    sweep: Sweep = False,
    show_config: ShowConfig = False,
    profile: Annotated[
        Path | None, typer.Option("--profile", help="A trace to write, for ui.perfetto.dev or chrome://tracing.")
    ] = None,
) -> None:
    """Explain a task's examples, measure the faithfulness, and keep the results."""
    from assay.benchmark import launch

    if show_config:
        typer.echo(launch.show("run", overrides or []))
        return

    from assay.benchmark.cell import Cell
    from assay.benchmark.profiling import profiled
    from assay.benchmark.progress import console
    from assay.benchmark.run import run as run_job
    from assay.benchmark.table import terminal_table

    with nullcontext() if profile is None else profiled(profile) as seen:
        reports = launch.launch(
            "run", lambda config: [str(cell.path) for cell in run_job(config)], overrides or [], sweep, spread=True
        )
    paths = [Path(path) for report in reports for path in report.cells]
    if len(paths) > MOST_IN_TABLES:
        # Intervals and tests of thousands of cells take minutes, and nobody reads them in a terminal.
        roots = {path.parents[2] for path in paths}
        where = str(roots.pop()) if len(roots) == 1 else "RESULTS"
        typer.echo(f"{len(paths):,} cells. Their tables: assay leaderboard show {where} --task TASK --model MODEL,")
        typer.echo(f"or all of them as a site: assay leaderboard build {where} --out FOLDER")
    elif paths:
        console.print(terminal_table([Cell.read(path) for path in paths]))
    if seen is not None:
        for line in seen.lines():
            console.print(line, markup=False)
        typer.echo(f"Trace: {profile}")
    failed = [report.error for report in reports if report.error]
    if len(reports) > 1:
        for error in failed:
            typer.echo(f"Failed: {error}", err=True)
        typer.echo(f"{len(reports) - len(failed)} of {len(reports)} jobs ended well.")
    raise typer.Exit(launch.exit_code(reports))


@app.command()
def plan(
    overrides: Annotated[list[str] | None, typer.Argument(help="Hydra overrides, the same as for assay run.")] = None,
    sweep: Sweep = False,
    examples: Annotated[int, typer.Option("--examples", help="How many examples of each job to try.")] = 8,
    seconds: Annotated[float, typer.Option("--seconds", help="How long to try them, all jobs together.")] = 60.0,
    out: Annotated[Path | None, typer.Option("--json", help="A file for all numbers.")] = None,
) -> None:
    """Say what assay run would take, before it starts: rows, tokens, time, disk, on one worker and on several."""
    import json

    from assay.benchmark import launch
    from assay.benchmark.progress import console
    from assay.planning.plan import plan as plan_jobs
    from assay.planning.terminal import as_json, terminal_plan

    if out is not None and not out.absolute().parent.is_dir():
        raise AssayError(f"--json {str(out)!r}: there is no folder {str(out.absolute().parent)!r}.")
    found = plan_jobs(overrides or [], sweep, examples, seconds)
    if found.jobs:
        console.print(terminal_plan(found))
        if out is not None:
            try:
                out.write_text(json.dumps(as_json(found), indent=2) + "\n", "utf-8")
            except OSError as error:
                raise AssayError(f"{str(out)!r} cannot be written: {error.strerror or error}.") from error
            typer.echo(f"Plan: {out}")
    raise typer.Exit(launch.exit_code(found.reports))


@app.command()
def train(overrides: Overrides = None, sweep: Sweep = False, show_config: ShowConfig = False) -> None:
    """Fine-tune a classifier for a task and save it as a model folder."""
    from assay.benchmark import launch

    if show_config:
        typer.echo(launch.show("train", overrides or []))
        return

    from assay.training import train as train_job

    reports = launch.launch("train", lambda config: [str(train_job(config))], overrides or [], sweep, spread=True)
    raise typer.Exit(launch.exit_code(reports))


@app.command()
def score(
    results: Annotated[str, typer.Argument(help="The results folder of assay run, or its URL.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="Hydra overrides, such as metric=full perturbation=[mask,delete] or protocol=eraser."),
    ] = None,
) -> None:
    """Judge stored attributions by other metrics; the model is asked only for what is not stored."""
    from assay.benchmark import launch
    from assay.benchmark.cell import Cell
    from assay.benchmark.configured_model import load_model
    from assay.benchmark.progress import console
    from assay.benchmark.rescoring import rescore
    from assay.benchmark.table import terminal_table

    place = results.replace("\\", "\\\\").replace("'", "\\'")
    reports = launch.launch(
        "score",
        lambda config: [str(cell.path) for cell in rescore(config, load_model)],
        [f"results='{place}'", *(overrides or [])],
        sweep=False,
    )
    cells = [Cell.read(Path(path)) for report in reports for path in report.cells]
    if cells:
        console.print(terminal_table(cells))
    raise typer.Exit(launch.exit_code(reports))


@app.command()
def view(
    text: Annotated[str, typer.Argument(help="The text to explain.")],
    overrides: Overrides = None,
    pair: Annotated[str | None, typer.Option("--pair", help="The second text, for a model that reads two.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="A page to write beside what is printed.")] = None,
) -> None:
    """Explain one text by several methods, and show what each says of it."""
    from assay.benchmark import launch
    from assay.benchmark.progress import console
    from assay.view.page import check_place, write
    from assay.view.reading import View, check_text, read
    from assay.view.terminal import terminal_view

    texts = [text] if pair is None else [text, pair]
    check_text(texts)
    if html is not None:
        check_place(html)
    views: list[View] = []

    def job(config: DictConfig) -> list[str]:
        views.append(read(config, texts))
        return []

    reports = launch.launch("view", job, overrides or [], sweep=False)
    for one in views:
        console.print(terminal_view(one), soft_wrap=False)
        if html is not None:
            write(one, html)
            typer.echo(f"Page: {html}")
    raise typer.Exit(launch.exit_code(reports))


@app.command()
def validate(
    method: Annotated[
        str,
        typer.Argument(
            help="my_package.my_module:MyMethod, a function in place of a class, or a path of attributions."
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="method.NAME=VALUE for the method; and Hydra overrides of assay run, such as task=sst2 model=PATH, "
            "where explainer=[...] names the baselines."
        ),
    ] = None,
    sweep: Sweep = False,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write; by default validation/NAME.")] = None,
    show_config: ShowConfig = False,
) -> None:
    """Put a method of your own to the test: its contract, planted truth, the baselines; with a verdict in words."""
    from assay.validation import validate as validation

    if show_config:
        typer.echo(validation.show(method, overrides or []))
        return
    raise typer.Exit(validation.validate(method, overrides or [], sweep, out))


@app.command("compare-protocols")
def compare_protocols(
    results: Annotated[str, typer.Argument(help="The results folder of assay run and assay score, or its URL.")],
    out: Annotated[Path | None, typer.Option("--out", help="A CSV file for all ranks and means.")] = None,
) -> None:
    """Show how the ranking of explainers, and the winner, change with the definition of a metric."""
    from assay.benchmark.comparison import compare, terminal_comparison
    from assay.benchmark.progress import console
    from assay.benchmark.store import Store

    comparisons = compare(Store(results).checked_cells())
    console.print(terminal_comparison(comparisons))
    if out is not None:
        import pandas as pd

        try:
            pd.concat([one.frame() for one in comparisons]).to_csv(out, index=False)
        except OSError as error:
            raise AssayError(f"{str(out)!r} cannot be written: {error.strerror or error}.") from error
        typer.echo(f"Ranks: {out}")


@app.command("power")
def examples_needed(
    pilot: Annotated[str, typer.Option("--pilot", help="The results folder of a small assay run, or its URL.")],
    difference: Annotated[float, typer.Option(help="The smallest difference that is to be told from none.")],
    metric: Annotated[str | None, typer.Option(help="A measure; by default the mean skill.")] = None,
    perturbation: Annotated[str | None, typer.Option(help="By default each of the pilot's.")] = None,
    power: Annotated[float, typer.Option(help="The chance to tell such a difference.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="The chance to see a difference where there is none.")] = 0.05,
) -> None:
    """Say how many examples are needed to tell explainers apart, from a pilot."""
    from assay.benchmark.power import power_table
    from assay.benchmark.progress import console
    from assay.benchmark.store import Store

    console.print(power_table(Store(pilot).cells(), difference, metric, perturbation, power, alpha))


@app.command("list")
def list_names(
    group: Annotated[str, typer.Argument(help=f"One of {', '.join(GROUPS)}.")],
    model: Annotated[
        str | None,
        typer.Option(help="For explainers: show which of them are defined for this model, and why others not."),
    ] = None,
) -> None:
    """Name what there is, with a line about each."""
    from assay import registry
    from assay.errors import unknown_name

    if group not in GROUPS:
        raise unknown_name("group", group, GROUPS)
    names = registry.names(GROUPS[group])
    reasons: dict[str, str] = {}
    if model is not None:
        if group != "explainers":
            raise AssayError(f"--model is for explainers; {group} do not depend on it.")
        from assay.benchmark.preparation import undefined_for

        reasons = undefined_for(model, names)
    width = max(map(len, names), default=0)
    for name in names:
        if name not in reasons:
            typer.echo(f"{name:<{width}}  {registry.describe(GROUPS[group], name)}".rstrip())
    if reasons:
        typer.echo(f"\nNot for {model}:")
    for name, reason in reasons.items():
        typer.echo(f"{name:<{width}}  {reason}")


@export.command()
def eraser(
    results: Annotated[str, typer.Argument(help="The results folder of assay run, or its URL.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
) -> None:
    """Write JSON lines, documents and annotations that ERASER's own scorer reads."""
    from assay.benchmark.eraser_export import export as export_to_eraser

    for one in export_to_eraser(results, out):
        note = f", {one.left_out} without an attribution left out" if one.left_out else ""
        typer.echo(f"{one.path} ({one.explainer}, hidden by {one.perturbation}: {one.examples} examples{note})")


@export.command()
def attributions(
    results: Annotated[str, typer.Argument(help="The results folder of assay run, or its URL.")],
    out: Annotated[Path, typer.Option("--out", help="The folder to write.")],
    format: Annotated[str, typer.Option("--format", help="jsonl, csv or parquet.")] = "jsonl",
) -> None:
    """Write every attribution, a file for each method, as any tool and the explainer precomputed can read it."""
    from assay.benchmark.attribution_export import export as export_attributions

    for one in export_attributions(results, out, format):
        if one.path is None:
            typer.echo(f"{one.explainer} is left out: it {one.left_out}.")
        else:
            note = f", {one.without} of them without an attribution" if one.without else ""
            typer.echo(f"{one.path} ({one.explainer}: {one.examples} examples{note})")


def main() -> None:
    """Run the command line; what the user got wrong is one line and exit code 2, a signal one line and its own code."""
    # As `python -m` does, so that a class of the user's own is found in the folder where the command is run.
    sys.path.insert(0, "")
    with interruptible():
        _run()


def _run() -> None:
    try:
        app()
    except AssayError as error:
        # Names in it may come from data, and the terminal is not theirs to steer.
        print(f"Error: {clean_lines(error)}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # Not the results: whatever else was being written there, such as a sweep's own notes.
        print(f"Error: {clean_lines(error)}. Free some space and run the same command again.", file=sys.stderr)
        sys.exit(2)
    except Interrupted as end:
        end_workers()
        from assay.benchmark.farewell import farewell

        print(f"\n{clean_lines(farewell(end, sys.argv[1:]))}", file=sys.stderr, flush=True)
        sys.exit(end.code)
