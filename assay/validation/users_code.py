"""What went wrong in a user's own code, without a line of ours."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

from assay.plain_text import clean

_PACKAGE = str(Path(__file__).parents[1])
_OTHERS = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


def traceback_of(error: BaseException) -> str:
    """The traceback as Python prints it, without the frames of Assay and of the import machinery.

    Args:
        error: what was raised; what it was raised from is shown as well.
    """
    shown = traceback.TracebackException.from_exception(error)
    parts: list[traceback.TracebackException | None] = [shown]
    while parts:
        part = parts.pop()
        if part is not None:
            part.stack = traceback.StackSummary.from_list(
                [frame for frame in part.stack if not _is_ours(frame.filename)]
            )
            parts += [part.__cause__, part.__context__]
    return "".join(shown.format()).rstrip()


def place_of(error: BaseException) -> str:
    """Where it was raised, such as `my_module.py:12`: the last line of the user's own.

    Where all but Assay's code is installed, the line that was called from Assay; where all is Assay's, the last line.
    """
    frames = [(frame.f_code.co_filename, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    foreign = [frame for frame in frames if not _is_ours(frame[0])]
    own = [frame for frame in foreign if not frame[0].startswith(_OTHERS) and Path(frame[0]).exists()]
    if own or foreign or frames:
        file, line = own[-1] if own else foreign[0] if foreign else frames[-1]
        return f"{Path(file).name}:{line}"
    return "nowhere"


def described(error: BaseException) -> str:
    """The error and its place in a line, such as `ValueError: no words (my_module.py:12)`; long ones are cut."""
    said = clean(error, limit=300).strip()
    return f"{type(error).__name__}{f': {said}' if said else ''} ({place_of(error)})"


def _is_ours(file: str) -> bool:
    return file.startswith((_PACKAGE, "<frozen importlib", sysconfig.get_path("stdlib") + "/importlib"))
