"""What a run says while it goes on: a bar with rates on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from assay.benchmark.amounts import duration

# Where there is no terminal to ask, 80 columns would cut the tables.
console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
SECONDS_BETWEEN_LINES = 15.0


@dataclass
class _Voice:
    """How this process speaks.

    Attributes:
        name: of the worker, which begins every line; empty where there is a single one.
        pause: how much longer than a single worker it keeps quiet between lines, so that all together say no more.
        mute: whether nothing is said at all.
    """

    name: str = ""
    pause: int = 1
    mute: bool = False


_voice = _Voice()


@contextmanager
def speaking_as(worker: int, workers: int) -> Iterator[None]:
    """Begin every line with the worker's number, and draw no bar; of what all would say, only the first speaks.

    The others are quiet until `speak_up`.
    """
    global _voice
    before = _voice
    _voice = _Voice(f"worker {worker}: ", workers, mute=worker > 0)
    try:
        yield
    finally:
        _voice = before


def speak_up() -> None:
    """From here on every worker says what it does."""
    _voice.mute = False


def say(text: str, own: bool = False) -> None:
    """Print a line, above the bar if there is one.

    Args:
        text: the line.
        own: whether it is of this process alone, so that no other worker says it.
    """
    if own or not _voice.mute:
        console.print(f"{_voice.name}{text}", markup=False)


class Progress:
    """Counts explanations that are finished, with metrics and all."""

    def __init__(self, total: int) -> None:
        """Begin with nothing done out of `total`."""
        self._total = total
        self._done = 0
        self._skipped = 0
        self._rows_before = 0
        self._rows_now: Callable[[], int] = lambda: 0
        self._started = time.monotonic()
        self._last_line = self._started
        self._has_bar = console.is_terminal and not _voice.name
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not self._has_bar,
            transient=True,
        )
        self._task = self._bar.add_task("explanations", total=total, rate="")

    def __enter__(self) -> Progress:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
        if kind is None and self._done > self._skipped:
            seconds = time.monotonic() - self._started
            say(
                f"{self._done - self._skipped} explanations in {duration(seconds)}: "
                f"{self._rows():,} distinct rows answered, {self._rows() / max(seconds, 1e-9):,.0f} a second."
            )

    def watch(self, rows: Callable[[], int]) -> None:
        """Count the rows of the next shard's engine from here on."""
        self._rows_before += self._rows_now()
        self._rows_now = rows

    def skip(self, count: int) -> None:
        """Count explanations that were finished before."""
        self._skipped += count
        self._done += count
        self._bar.update(self._task, completed=self._done)

    def add(self, count: int) -> None:
        """Have more to do than was known at the beginning."""
        self._total += count
        self._bar.update(self._task, total=self._total)

    def advance(self) -> None:
        """Count one more."""
        self._done += 1
        now = time.monotonic()
        if self._has_bar:
            rate = f"{self._rows() / max(now - self._started, 1e-9):,.0f} rows/s"
            self._bar.update(self._task, completed=self._done, rate=rate)
        elif now - self._last_line >= SECONDS_BETWEEN_LINES * _voice.pause:
            self._last_line = now
            elapsed = now - self._started
            fresh = self._done - self._skipped
            left = elapsed / fresh * (self._total - self._done)
            say(
                f"{self._done} of {self._total} explanations, {self._rows() / elapsed:,.0f} rows/s, "
                f"{duration(left)} left"
            )

    def _rows(self) -> int:
        return self._rows_before + self._rows_now()
