"""`assay validate`: the contract, planted truth, the comparison with baselines; and what to say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from assay.benchmark import launch
from assay.benchmark.cell import Cell
from assay.benchmark.configured_model import load_model
from assay.benchmark.job import Job, check
from assay.benchmark.launch import Report
from assay.benchmark.progress import console, say
from assay.benchmark.run import run
from assay.benchmark.store import Store
from assay.classifier import Classifier
from assay.errors import AssayError
from assay.validation.contract import check_contract
from assay.validation.findings import Findings, sections, skills, truth
from assay.validation.overrides import Overrides, spelled, split, with_subject
from assay.validation.report import write_reports
from assay.validation.subject import load_subject
from assay.validation.terminal import verdict_table
from assay.validation.truth import Planted

# A method that fails one of these gives no scores for ordinary texts, so there is nothing to compare.
ESSENTIAL = ("one score a feature", "finite")


def validate(target: str, arguments: Sequence[str] = (), sweep: bool = False, out: Path | None = None) -> int:
    """Put a method to the test, and write `report.md`, `report.html`, `report.json` and the folder `results`.

    First the contract, then the planted tasks, then the comparison with baselines under what was asked for. A method
    that breaks the contract is compared nonetheless, under a warning, unless it gives no scores for ordinary texts.
    Cells that were finished before, by the same method with the same settings, are not computed again.

    Args:
        target: `package.module:Class`, `package.module:function` or the path of attributions.
        arguments: overrides: `method.NAME=VALUE` for the method, `planted.NAME=VALUE` for the planted tasks, and those
            of `assay run`; without a task or a model among them there is no comparison beside the planted tasks.
        sweep: whether commas make a sweep, as in `assay run -m`.
        out: the folder to write; by default `validation/<name>`.

    Returns:
        The exit code: 0 if the contract holds and every job ended well, 1 if not, 2 if a job was given bad input.

    Raises:
        AssayError: the method, an override or the folder cannot be used; nothing has been computed then.
    """
    given = split(arguments)
    subject = load_subject(target, given.method)
    planted = Planted.of(given.planted)
    folder = out or Path("validation") / subject.name
    Store(folder / "results").prepare()
    asked = [*with_subject(subject, given.run), f"results={spelled(str(folder / 'results'))}"]
    jobs, refused = _checked(asked, sweep) if given.ask_for_comparison else ([], [])
    if refused:
        return launch.exit_code(refused)
    model = load_model(jobs[0].content["model"]) if jobs else _small_model()
    say(f"{target}: the contract, on {model.name}.")
    checks = check_contract(subject.build, model)
    findings = Findings(target, subject, model.name, checks)
    broken = [one for one in findings.failed if one.name in ESSENTIAL]
    reports: list[Report] = []
    if broken:
        why = f"the method gives no scores to go by ({broken[0].name}: {broken[0].detail})"
        findings = replace(findings, no_truth=why, no_sections=why)
    else:
        findings, reports = _planted(findings, planted, given, folder / "results")
        findings, further = _compared(findings, asked if jobs else [], sweep)
        reports = [*reports, *further]
    if reports and not (findings.truth or findings.sections) and all(report.bad_input for report in reports):
        # What was wrong has been said, and there is nothing else to report on.
        return launch.exit_code(reports)
    failures = [report.error for report in reports if report.error]
    page = write_reports(replace(findings, failures=failures), folder)
    console.print(verdict_table(findings))
    say(f"Report: {page}")
    return launch.exit_code(reports) or int(bool(findings.failed))


def _planted(findings: Findings, planted: Planted, given: Overrides, results: Path) -> tuple[Findings, list[Report]]:
    """What is found on the planted tasks, and how the jobs ended."""
    subject = findings.subject
    if subject.kind == "attributions":
        return replace(findings, no_truth="a file of attributions says nothing of other texts and another model"), []
    if not planted.tasks:
        return replace(findings, no_truth="planted.tasks asks for no task"), []
    reports = planted.train()
    trained = [report.cells[0] for report in reports if report.cells]
    if not trained:
        return replace(findings, no_truth=str(reports[0].error)), reports
    try:
        subject.build().check(Classifier.from_pretrained(trained[0]))
    except AssayError as reason:
        return replace(findings, no_truth=str(reason)), []
    say(f"{findings.target}: planted truth on {', '.join(planted.tasks)}.")
    cells, reports = _run(planted.overrides(subject, given, results), sweep=True)
    if not cells:
        return replace(findings, no_truth=str(reports[0].error)), reports
    return replace(findings, truth=truth(cells, subject.name)), reports


def _compared(findings: Findings, asked: Sequence[str], sweep: bool) -> tuple[Findings, list[Report]]:
    """What is found beside the baselines, and how the jobs ended."""
    if not asked:
        why = "no task and model were named; name them, for example task=sst2 model.path=PATH"
        return replace(findings, no_sections=why), []
    say(f"{findings.target}: comparison with baselines.")
    cells, reports = _run(asked, sweep)
    if not cells:
        return replace(findings, no_sections=str(reports[0].error)), reports
    name = findings.subject.name
    return replace(findings, sections=sections(cells, name), skill_comparisons=skills(cells, name)), reports


def _run(overrides: Sequence[str], sweep: bool) -> tuple[list[Cell], list[Report]]:
    """The cells of some jobs, each once, and how the jobs ended."""
    reports = launch.launch(
        "run", lambda config: [str(cell.path) for cell in run(config)], overrides, sweep, spread=True
    )
    paths = dict.fromkeys(path for report in reports for path in report.cells)
    return [Cell.read(Path(path)) for path in paths], reports


def show(target: str, arguments: Sequence[str]) -> str:
    """The composed configuration as YAML: that of `assay run`, with the method among the explainers, and the planted.

    Raises:
        AssayError: the method or an override cannot be used.
    """
    given = split(arguments)
    subject = load_subject(target, given.method)
    return launch.show("run", with_subject(subject, given.run)) + launch.show("validate", given.planted)


def _small_model() -> Classifier:
    from assay.validation.small_model import small_classifier

    return small_classifier()


def _checked(overrides: Sequence[str], sweep: bool) -> tuple[list[Job], list[Report]]:
    """The jobs of the comparison, built and their data read but nothing computed; and those that were refused."""
    jobs: list[Job] = []

    def look(config: DictConfig) -> list[str]:
        job = check(config)
        job.source.load()
        jobs.append(job)
        return []

    reports = launch.launch("run", look, overrides, sweep)
    return jobs, [report for report in reports if report.error]
