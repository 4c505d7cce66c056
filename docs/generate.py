"""Write docs/explainers.md and docs/every_metric.md from the docstrings, so that the two cannot disagree."""

from __future__ import annotations

import csv
import inspect
import re
from collections.abc import Iterable
from itertools import groupby
from math import isinf
from pathlib import Path
from typing import Any

from assay import registry
from assay.explainers import FAMILIES
from assay.explainers.base import BlackBoxExplainer, Explainer
from assay.metrics.base import Measure, MethodMetric, Metric

DOCS = Path(__file__).parent
PLANTED = DOCS / "planted.csv"
SECTIONS = ("Args:", "Raises:", "Attributes:", "Returns:")
# What every white-box explainer takes is said once, above.
SHARED = ("subwords",)

# Which files hold the metrics of a family.
METRIC_FAMILIES: dict[str, tuple[str, ...]] = {
    "Erasure": ("erasure",),
    "Curves": ("curves", "normalised"),
    "Flips": ("flips",),
    "Correlation and infidelity": ("correlation", "infidelity"),
    "Soft erasure and random holes": ("soft", "fidelity"),
    "Beating chance": ("diagnosticity",),
    "Axioms": ("axioms",),
    "Simplicity": ("complexity",),
    "Ground truth": ("ground_truth",),
    "Human highlights": ("plausibility",),
    "Robustness and invariance": ("robustness", "stability", "invariance"),
    "Randomisation": ("randomisation", "data_randomisation"),
    "Retraining": ("retraining",),
    "Attention": ("attention_necessity",),
    "Out of distribution": ("out_of_distribution",),
    "What it costs": ("cost",),
}

HEAD = """# Explainers, one by one

This page is written by `make docs` from the docstrings. How to read it, what the defaults stand on and how to add a
method of your own: [explaining.md](explaining.md).

f is the target's output, x the input, n its number of features, f(S) the output with only the features in S visible, ∅
the input with all of them hidden, e_t the word embedding of token t. *Signed*: a positive score speaks for the target.
*Black box*: the method sees answers only. *White box*: it looks inside the model, scores tokens, and takes the setting
`subwords` (`sum` by default, `mean`, `max`, `first`): how a word's score comes of its tokens'.

"""

METRIC_HEAD = """# Metrics, one by one

This page is written by `make docs` from the docstrings. An overview, and what holds for all: [metrics.md](metrics.md).
Which one for which question: [which-metric.md](which-metric.md).

f is the target's output, x the input, n its number of features, R_k the k that rank highest, x∖S the input with S
hidden, p a probability. *Of an attribution*: the metric asks the model about inputs with features hidden, or about
nothing. *Of a method*: it has the explainer explain again, trains a model, or looks inside the one there is. Measures
that are *stored* are in the results and not in tables; ranges are those for probabilities.

"""


def main() -> None:
    """Write the pages."""
    (DOCS / "explainers.md").write_text(page(), "utf-8")
    (DOCS / "every_metric.md").write_text(metric_page(), "utf-8")


def page() -> str:
    """The text of the page of explainers."""
    members = _members("explainer", FAMILIES)
    parts = [HEAD, *_contents(members), _planted()]
    for family, names in members.items():
        parts.append(f"\n## {family}\n")
        parts.extend(_entry(name) for name in names)
    return "".join(parts)


def metric_page() -> str:
    """The text of the page of metrics."""
    members = _members("metric", METRIC_FAMILIES)
    parts = [METRIC_HEAD, *_contents(members)]
    for family, names in members.items():
        parts.append(f"\n## {family}\n")
        parts.extend(_metric_entry(name) for name in names)
    return "".join(parts)


def _members(group: str, families: dict[str, tuple[str, ...]]) -> dict[str, list[str]]:
    family_of = {module: family for family, modules in families.items() for module in modules}
    members: dict[str, list[str]] = {family: [] for family in families}
    for name in registry.names(group):
        members[family_of[registry.settings(group, name)["_target_"].split(".")[-2]]].append(name)
    return members


def _contents(members: dict[str, list[str]]) -> list[str]:
    return [
        f"- [{family}](#{_anchor(family)}): {', '.join(f'[`{name}`](#{name})' for name in names)}\n"
        for family, names in members.items()
    ]


def _anchor(heading: str) -> str:
    return heading.lower().replace(" ", "-")


def _entry(name: str) -> str:
    cls: type[Explainer] = registry.locate(registry.settings("explainer", name)["_target_"])
    kind = "black box" if issubclass(cls, BlackBoxExplainer) else "white box"
    sign = "signed or not"
    if name in registry.names_with_defaults("explainer"):
        built: Explainer = registry.build("explainer", name)
        sign = "signed" if built.signed else "unsigned"
    text, arguments = _read(inspect.cleandoc(cls.__doc__ or ""))
    lines = [f"\n### {name}\n", f"*{kind}, {sign}; `{cls.__module__}.{cls.__name__}`*\n", text]
    return "\n".join(lines + _settings("explainer", name, arguments))


def _metric_entry(name: str) -> str:
    cls: type[Metric | MethodMetric] = registry.locate(registry.settings("metric", name)["_target_"])
    built: Metric | MethodMetric = registry.build("metric", name)
    kind = ["of a method" if isinstance(built, MethodMetric) else "of an attribution"]
    if isinstance(built, Metric) and built.objective(2) is not None:
        kind.append("has a skill")
    if built.needs_rationale:
        kind.append("needs a true rationale")
    if isinstance(built, Metric) and built.needs_highlights:
        kind.append("needs human highlights")
    text, arguments = _read(inspect.cleandoc(cls.__doc__ or ""))
    lines = [f"\n### {name}\n", f"*{', '.join(kind)}; `{cls.__module__}.{cls.__name__}`*\n", text]
    shown = [measure for measure in built.measures if measure.headline]
    lines.append("| measure | better | range |\n|---|---|---|")
    lines.extend(f"| `{one.name}` | {_better(one)} | {_range(one)} |" for one in shown)
    stored = [measure for measure in built.measures if not measure.headline]
    if stored:
        alike = groupby(stored, lambda one: f"{_better(one)}, {_range(one)}")
        lines.append("\nStored: " + "; ".join(f"{_names(ones)}: {what}" for what, ones in alike) + ".")
    lines[-1] += "\n"
    return "\n".join(lines + _settings("metric", name, arguments))


def _better(measure: Measure) -> str:
    return "neither" if measure.direction == "none" else measure.direction


def _names(measures: Iterable[Measure]) -> str:
    return ", ".join(f"`{one.name}`" for one in measures)


def _range(measure: Measure) -> str:
    low, high = measure.range
    return f"{'(' if isinf(low) else '['}{_number(low)}, {_number(high)}{')' if isinf(high) else ']'}"


def _number(value: float) -> str:
    return f"{value:.3g}".replace("-", "−").replace("inf", "∞")


def _settings(group: str, name: str, arguments: dict[str, str]) -> list[str]:
    told = {key: value for key, value in registry.settings(group, name).items() if key not in ("_target_", *SHARED)}
    if not told:
        return []
    items = [f"- `{key}` ({_spell(value)}): {arguments.get(key, '')}".rstrip(": ") for key, value in told.items()]
    return ["Settings:\n", "\n".join(items) + "\n"]


def _spell(value: Any) -> str:
    if value == "???":
        return "must be given"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _read(doc: str) -> tuple[str, dict[str, str]]:
    """A docstring's text, and what it says of each argument."""
    body: list[str] = []
    arguments: dict[str, str] = {}
    section = current = ""
    for line in doc.splitlines():
        if line in SECTIONS:
            section = line
        elif not section:
            body.append(line)
        elif section == "Args:":
            start = re.match(r"    (\w+): (.*)", line)
            if start:
                current = start[1]
                arguments[current] = start[2]
            elif line.strip() and current:
                arguments[current] += " " + line.strip()
    return "\n".join(body).strip() + "\n", arguments


def _planted() -> str:
    """The table of how well each method finds words that are known to decide."""
    if not PLANTED.exists():
        return ""
    with PLANTED.open(encoding="utf-8", newline="") as file:
        header, *rows = list(csv.reader(file))
    lines = [
        "\n## Do they find words that truly decide?\n",
        "Precision@k on the planted tasks: of the k words that rank highest, the share that truly decides, k being how",
        "many do; mean over the examples of classifiers that answer without a mistake. `make planted` makes the table",
        "anew. What lies behind low figures is said in [explaining.md](explaining.md#planted-truth).\n",
        "| " + " | ".join(header) + " |",
        "|---|" + "---:|" * (len(header) - 1),
        *("| " + " | ".join([f"`{row[0]}`", *row[1:]]) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
