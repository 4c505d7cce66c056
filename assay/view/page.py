"""A view as one HTML file that needs nothing else."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from importlib.resources import files
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from assay.content_policy import policy
from assay.errors import AssayError
from assay.highlight import LETTERS, WORDS, level, shares, stylesheet
from assay.metrics.base import Curve
from assay.plain_text import clean
from assay.view.reading import Reading, View
from assay.view.terminal import explained, ordered, span, verdict

_WIDTH, _HEIGHT = 240, 90


def check_place(path: Path) -> None:
    """See that a page can be written, before there is one.

    Raises:
        AssayError: it cannot.
    """
    if path.is_dir():
        raise AssayError(f"{str(path)!r} is a folder; --html wants the name of a file, such as {path / 'view.html'}.")
    if not path.absolute().parent.is_dir():
        raise AssayError(f"There is no folder {str(path.absolute().parent)!r} to write {path.name!r} into.")
    if not os.access(path.absolute().parent, os.W_OK):
        raise AssayError(f"The folder {str(path.absolute().parent)!r} cannot be written.")


def write(view: View, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        AssayError: it cannot be written.
    """
    content = render(view)
    staged = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        staged.write_text(content, "utf-8", newline="\n")
        staged.replace(path)
    except OSError as error:
        staged.unlink(missing_ok=True)
        raise AssayError(f"{str(path)!r} cannot be written: {error.strerror or error}.") from error


def render(view: View) -> str:
    """The page: the words by each explainer, their scores in a table, and the curves."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("assay", "view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = f"{files('assay.view').joinpath('page.css').read_text('utf-8').strip()}\n{stylesheet()}"
    told = [reading for reading in view.readings if reading.scores is not None]
    return templates.get_template("page.html").render(
        policy=policy(style),
        style=style,
        title=clean(" ".join(feature.text for feature in view.features), 80),
        verdict=verdict(view),
        explained=explained(view),
        target=clean(view.labels[view.target], 40),
        output=view.settings.output.replace("_", " "),
        feature=view.settings.feature,
        several=len({feature.segment for feature in view.features}) > 1,
        signed=any(reading.signed for reading in view.readings),
        unsigned=not all(reading.signed for reading in view.readings),
        readings=[_reading(view, reading) for reading in view.readings],
        names=[clean(reading.name, 60) for reading in told],
        rows=_rows(view, told),
        box=(_WIDTH, _HEIGHT),
    )


def _reading(view: View, reading: Reading) -> dict[str, Any]:
    judged = [
        (clean(column, 60).replace("_", " "), f"{reading.values[column]:.3f}" if known else "—")
        for column in view.directions
        if (known := bool(np.isfinite(reading.values.get(column, np.nan)))) or column in reading.values
    ]
    charts = []
    for column, curve in reading.curves.items():
        everyone = [other.curves[column] for other in view.readings if column in other.curves]
        low, high = span(everyone, view.settings.output)
        charts.append((clean(column, 60).replace("_", " "), _path(curve, low, high), f"{low:.3g}", f"{high:.3g}"))
    return {
        "name": clean(reading.name, 60),
        "problem": clean(reading.problem),
        "texts": _texts(view, reading),
        "more": max(0, len(view.features) - WORDS),
        "judged": judged,
        "charts": charts,
    }


def _texts(view: View, reading: Reading) -> list[list[tuple[str, str, str]]]:
    """The words of each text, each with its colour and its score."""
    if reading.scores is None:
        return []
    names = [level(share, reading.signed) for share in shares(reading.scores).tolist()]
    told = list(zip(view.features, names, ordered(reading.scores, reading.signed), strict=True))[:WORDS]
    return [
        [(clean(feature.text, LETTERS), name, score) for feature, name, score in group]
        for _, group in groupby(told, key=lambda one: one[0].segment)
    ]


def _rows(view: View, told: Sequence[Reading]) -> list[tuple[int, str, list[tuple[str, str]]]]:
    """For each word its text's number, itself, and by each explainer its colour and its score."""
    columns = []
    for reading in told:
        assert reading.scores is not None
        names = [level(share, reading.signed) for share in shares(reading.scores).tolist()]
        columns.append(list(zip(names, ordered(reading.scores, reading.signed), strict=True)))
    return [
        (feature.segment + 1, clean(feature.text, LETTERS), [column[place] for column in columns])
        for place, feature in enumerate(view.features)
    ]


def _path(curve: Curve, low: float, high: float) -> str:
    across = curve.x * _WIDTH
    down = (1 - (curve.y - low) / ((high - low) or 1.0)) * _HEIGHT
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(across, down, strict=True))
