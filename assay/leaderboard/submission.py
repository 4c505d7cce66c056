"""What a submission is: cells as a run stored them, and who answers for the method; and making one.

    <submission>/
        submission.json                             the method: name, link, citation; the explainer; its cells
        <task>/<model>/<explainer>-<key>/           the cells, as in a results folder
        <task>/<model>/random-<key>/, oracle-<key>/ the controls of the same protocols

So a submission is a results folder, and whatever reads one reads the other. A cell's `config.json` is cut down to the
task and the model, and where those lay on the submitter's disk is left out.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError

from assay.benchmark.cell import Cell
from assay.benchmark.judging import CONTROLS
from assay.benchmark.protocol import PROTOCOL_VERSION
from assay.benchmark.store import Store
from assay.benchmark.tables import TABLES
from assay.benchmark.whole_folder import checksum
from assay.encoding import FeatureUnit, Output
from assay.errors import AssayError, unknown_name
from assay.leaderboard.components import foreign_parts, is_hub_id
from assay.plain_text import clean

PARTS = (*(f"{name}.parquet" for name in TABLES), "cell.json", "config.json", "environment.json", "checksums.json")
_LINK = re.compile(r"https?://[A-Za-z0-9.\-]+(:\d+)?(/[^\s<>\"'`\\{}|^]*)?")


def _one_line(text: str) -> str:
    if clean(text, len(text)) != text:
        raise ValueError("it holds line breaks, or characters that steer a terminal or turn the reading direction")
    return text


def _no_markup(text: str) -> str:
    if any(letter in text for letter in "<>") or text != text.strip():
        raise ValueError("it holds < or >, or begins or ends with a space; a name is plain text")
    return text


def _lines(text: str) -> str:
    for line in text.splitlines():
        _one_line(line.replace("\t", " "))
    return text


def _linked(text: str) -> str:
    if not _LINK.fullmatch(text):
        raise ValueError("a link begins with http:// or https:// and a host, such as https://example.org/paper")
    return text


Line = Annotated[str, Field(min_length=1, max_length=500), AfterValidator(_one_line)]
Text = Annotated[str, Field(max_length=20_000), AfterValidator(_lines)]
Title = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_one_line), AfterValidator(_no_markup)]
Link = Annotated[str, Field(max_length=500), AfterValidator(_linked)]
Key = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Names = Annotated[list[Line], Field(max_length=1000)]
Settings = dict[Line, JsonValue]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Method(_Strict):
    """Who answers for a method: what it is called, where it is described, how it is cited."""

    name: Title
    link: Link
    citation: Text
    licence: Title | None = None
    submitter: Title | None = None


class Listed(_Strict):
    """A cell of the method: its folder, and the SHA-256 of its checksums.json, which names all its other files'."""

    path: Line
    sha256: Sha256


class Submission(_Strict):
    """The content of submission.json; `form` is raised whenever it takes another form."""

    form: Literal[1] = 1
    method: Method
    explainer: Line
    cells: Annotated[list[Listed], Field(min_length=1, max_length=10_000)]


class _Task(_Strict):
    name: Line
    split: Line
    size: Count | None
    seed: int
    examples: Annotated[int, Field(ge=1)]
    labels: Names
    fingerprint: Sha256


class _Model(_Strict):
    name: Line
    revision: Line | None
    fingerprint: Sha256
    dtype: Literal["float32", "bfloat16", "float16"]
    weights: Literal["bfloat16", "float16"] | None = None  # told only where they are rounded
    labels: Names
    max_length: Count
    prompt: JsonValue
    hidden_token: Line | None


class _Protocol(_Strict):
    version: int
    preset: Line | None
    task: _Task
    model: _Model
    feature: FeatureUnit
    target: Line | int
    contrast: Line | int | None
    output: Output
    seed: int
    perturbations: Annotated[dict[Line, Settings], Field(min_length=1)]
    metrics: Annotated[dict[Line, Settings], Field(min_length=1)]


class _Explainer(_Strict):
    name: Line
    settings: Settings
    signed: bool
    searches: bool
    perturbation: Line | None


class _Measure(_Strict):
    metric: Line
    direction: Literal["higher", "lower", "none"]
    range: Annotated[list[float], Field(min_length=2, max_length=2)]
    headline: bool
    per: Line | None


class _Counts(_Strict):
    examples: Count
    truncated_examples: Count
    truncated_tokens: Count
    undefined: dict[Line, Count]


class _Cost(_Strict):
    forward_rows: float
    forward_tokens: float
    backward_rows: float
    backward_tokens: float
    seconds: float


class _Precision(_Strict):
    dtype: Literal["bfloat16", "float16"]
    examples: Count
    flips: float
    mean: float
    largest: float


class CellContent(_Strict):
    """The content of cell.json in the present schema."""

    schema_: Annotated[int, Field(alias="schema")]
    key: Key
    protocol_key: Key
    protocol: _Protocol
    explainer: _Explainer
    measures: dict[Line, _Measure]
    accuracy: float
    majority: float
    command: Text
    counts: _Counts
    cost: _Cost
    work: dict[Line, float] | None = None
    precision: _Precision | None = None


class ModelChoice(_Strict):
    """How the model is loaded; `path` is a hub id, or null where it lay on a disk."""

    kind: Literal["classifier", "prompted"]
    path: Line | None
    revision: Line | None
    device: Line
    dtype: Literal["float32", "bfloat16", "float16"]
    weights: Literal["float32", "bfloat16", "float16"] = "float32"
    template: Text | None
    label_words: dict[Line, Text] | None


class Config(_Strict):
    """The content of a submitted config.json: how task and model are had."""

    task: Settings
    model: ModelChoice


class Environment(_Strict):
    """The content of environment.json."""

    python: Line
    packages: dict[Line, Line | None]
    system: Line
    machine: str
    cores: int | None
    threads: int
    device: Line


def submit(
    results: str | Path,
    explainer: str,
    method: Mapping[str, Any],
    out: Path,
    keys: Collection[str] = (),
) -> tuple[Submission, list[Cell]]:
    """Write a submission: all cells of one explainer, one for each protocol, with the controls of those protocols.

    Args:
        results: a folder that `assay run` filled, or its URL.
        explainer: its name there.
        method: the fields of `Method`.
        out: the folder to make; it must not be there, or be empty.
        keys: of the cells to submit, where one protocol has several of this explainer; else all are.

    Returns:
        The content of submission.json, and the cells that were submitted.

    Raises:
        AssayError: no such explainer, no finished cell, a cell that is damaged or of an older schema or protocol
            version, several cells under one protocol, no control, a metric that nobody else can compute, a name or link
            that cannot be shown, or a folder that cannot be written.
    """
    answerable = _method(method)
    if explainer in CONTROLS:
        raise AssayError(f"{explainer} is a control; it travels with every submission and is none itself.")
    every = Store(results).checked_cells()
    own = _chosen(every, explainer, keys)
    controls = [control for cell in own for control in _controls(every, cell)]
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise AssayError(f"{str(out)!r} is there already. Name another folder with --out.")
    staged = out.with_name(f".{out.name}-{uuid.uuid4().hex[:8]}")
    try:
        staged.mkdir(parents=True)
        listed = [Listed(path=place(cell), sha256=checksum(_copy(cell, staged) / "checksums.json")) for cell in own]
        for control in controls:
            _copy(control, staged)
        submission = Submission(method=answerable, explainer=explainer, cells=listed)
        write_json(staged / "submission.json", submission.model_dump())
        if out.exists():
            out.rmdir()
        staged.rename(out)
    except OSError as error:
        raise AssayError(f"{str(out)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return submission, own


def cited(citation: str) -> str:
    """A citation: what a `.bib` or `.txt` file holds, or else the text itself.

    Raises:
        AssayError: no such file, or one that is no text.
    """
    path = Path(citation)
    if path.suffix not in (".bib", ".txt"):
        return citation
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise AssayError(f"--citation {citation!r} cannot be read: {error}.") from error


def place(cell: Cell) -> str:
    """The folder of a cell within its results, `/` between the parts."""
    return place_of(cell.meta)


def place_of(meta: Mapping[str, Any]) -> str:
    """Where a cell stands within its results, by the content of its cell.json."""
    return Store("").cell_path(meta).as_posix()


def write_json(path: Path, content: Any) -> None:
    """Write JSON as results have it."""
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _method(given: Mapping[str, Any]) -> Method:
    try:
        return Method(**given)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        told = str(fault["msg"]).removeprefix("Value error, ")
        raise AssayError(f"--{fault['loc'][0]} {clean(fault['input'], 60)!r}: {told}.") from error


def _chosen(every: Sequence[Cell], explainer: str, keys: Collection[str]) -> list[Cell]:
    named = [cell for cell in every if cell.explainer == explainer]
    if not named:
        known = {cell.explainer for cell in every} - set(CONTROLS)
        raise unknown_name("explainer", explainer, known)
    for key in keys:
        if key not in {cell.key for cell in named}:
            raise unknown_name(f"key of a cell of {explainer},", key, {cell.key for cell in named})
    chosen = [cell for cell in named if not keys or cell.key in keys]
    by_protocol: dict[str, list[Cell]] = {}
    for cell in chosen:
        by_protocol.setdefault(str(cell.meta["protocol_key"]), []).append(cell)
    for protocol, cells in by_protocol.items():
        if len(cells) > 1:
            options = " or ".join(f"--key {cell.key}" for cell in cells)
            raise AssayError(
                f"{explainer} has {len(cells)} cells with different settings under protocol {protocol[:8]} "
                f"({place(cells[0]).rpartition('/')[0]}). Say which one is the method: {options}."
            )
    for cell in chosen:
        _check_current(cell)
    return chosen


def _check_current(cell: Cell) -> None:
    again = f"Run it again with this version: {cell.meta['command']}"
    if "migrated" in cell.meta:
        raise AssayError(f"{cell.path} was stored in schema {cell.meta['migrated']['from']}. {again}")
    version = cell.protocol["version"]
    if version != PROTOCOL_VERSION:
        raise AssayError(f"{cell.path} follows protocol version {version}, and today's is {PROTOCOL_VERSION}. {again}")
    foreign = foreign_parts(cell.protocol)
    if foreign:
        raise AssayError(
            f"{cell.path}: {foreign[0]} is not a part of Assay, so nobody else can measure by it. Score the "
            "attributions by Assay's own metrics and perturbations first: `assay score`."
        )


def _controls(every: Sequence[Cell], cell: Cell) -> list[Cell]:
    found = []
    for name in CONTROLS:
        same = [one for one in every if one.explainer == name and one.meta["protocol_key"] == cell.meta["protocol_key"]]
        if len(same) != 1:
            told = "is missing" if not same else f"is there {len(same)} times, with different settings"
            raise AssayError(
                f"The control {name!r} {told} under protocol {cell.meta['protocol_key'][:8]}, and skill is read "
                f"against one. `assay run` makes it: {cell.meta['command']}"
            )
        found.append(same[0])
    return found


def _copy(cell: Cell, out: Path) -> Path:
    """Put a cell into a submission; where it now stands."""
    target = out / place(cell)
    target.mkdir(parents=True)
    for name in PARTS:
        if name not in ("config.json", "checksums.json"):
            shutil.copyfile(cell.path / name, target / name)
    config = json.loads((cell.path / "config.json").read_text("utf-8"))
    # How a model was spread over devices, or compiled, is a matter of the machine.
    model = {name: value for name, value in config["model"].items() if name not in ("device_map", "compile")}
    write_json(
        target / "config.json",
        {
            "task": {**config["task"], "path": None},
            "model": {**model, "path": model["path"] if is_hub_id(str(model["path"])) else None},
        },
    )
    write_json(target / "checksums.json", {name: checksum(target / name) for name in sorted(PARTS[:-1])})
    return target
