"""Write docs/explainers.md from the docstrings of the explainers, so that the two cannot disagree."""

from __future__ import annotations

import csv
import inspect
import re
from pathlib import Path

from assay import registry
from assay.explainers import FAMILIES
from assay.explainers.base import BlackBoxExplainer, Explainer

DOCS = Path(__file__).parent
PLANTED = DOCS / "planted.csv"
SECTIONS = ("Args:", "Raises:", "Attributes:", "Returns:")
# What every white-box explainer takes is said once, above.
SHARED = ("subwords",)

HEAD = """# Explainers, one by one

This page is written by `make docs` from the docstrings. How to read it, what the defaults stand on and how to add a
method of your own: [explaining.md](explaining.md).

f is the target's output, x the input, n its number of features, f(S) the output with only the features in S visible, ∅
the input with all of them hidden, e_t the word embedding of token t. *Signed*: a positive score speaks for the target.
*Black box*: the method sees answers only. *White box*: it looks inside the model, scores tokens, and takes the setting
`subwords` (`sum` by default, `mean`, `max`, `first`): how a word's score comes of its tokens'.

"""


def main() -> None:
    """Write the page."""
    (DOCS / "explainers.md").write_text(page(), "utf-8")


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    family_of = {module: family for family, modules in FAMILIES.items() for module in modules}
    members: dict[str, list[str]] = {family: [] for family in FAMILIES}
    for name in registry.names("explainer"):
        members[family_of[registry.settings("explainer", name)["_target_"].split(".")[-2]]].append(name)
    for family, names in members.items():
        parts.append(f"- [{family}](#{family.lower()}): {', '.join(f'[`{name}`](#{name})' for name in names)}\n")
    parts.append(_planted())
    for family, names in members.items():
        parts.append(f"\n## {family}\n")
        parts.extend(_entry(name) for name in names)
    return "".join(parts)


def _entry(name: str) -> str:
    cls: type[Explainer] = registry.locate(registry.settings("explainer", name)["_target_"])
    built: Explainer = registry.build("explainer", name)
    text, arguments = _read(inspect.cleandoc(cls.__doc__ or ""))
    kind = "black box" if issubclass(cls, BlackBoxExplainer) else "white box"
    sign = "signed" if built.signed else "unsigned"
    lines = [f"\n### {name}\n", f"*{kind}, {sign}; `{cls.__module__}.{cls.__name__}`*\n", text]
    settings = {key: value for key, value in registry.settings("explainer", name).items() if key != "_target_"}
    told = {key: value for key, value in settings.items() if key not in SHARED}
    if told:
        lines.append("Settings:\n")
        lines.append(
            "\n".join(
                f"- `{key}` ({_spell(value)}): {arguments.get(key, '')}".rstrip(": ") for key, value in told.items()
            )
            + "\n"
        )
    return "\n".join(lines)


def _spell(value: object) -> str:
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
