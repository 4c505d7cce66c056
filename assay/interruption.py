"""Ending on a signal without losing what is finished: Ctrl-C, SIGTERM, and SIGUSR1 as the warning of a scheduler."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
_asked: list[Interrupted] = []


class Interrupted(BaseException):
    """A signal has asked the program to end. No library takes it for an error that it may go on after.

    Attributes:
        code: with which the program is to end, 128 and the signal's number, as shells do.
        name: of the signal.
    """

    def __init__(self, number: int) -> None:
        """Take in the signal's number."""
        super().__init__(number)
        self.code = 128 + number
        self.name = signal.Signals(number).name


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` on the first signal, wherever the program is; end at once on the second.

    A signal that somebody else handles, or ignores as nohup does, is left to them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    default = (signal.SIG_DFL, signal.default_int_handler)
    known = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in known if signal.getsignal(number) in default}
    _asked.clear()
    for number in before:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(number: int, _: FrameType | None) -> None:
    if _asked:
        os._exit(_asked[0].code)
    _asked.append(Interrupted(number))
    raise _asked[0]


def check_interruption() -> None:
    """Raise `Interrupted` again where somebody has swallowed it."""
    if _asked:
        raise _asked[0]


def end_workers() -> None:
    """End the processes that launchers have started, which would otherwise go on to the end of their work first."""
    loky = sys.modules.get("joblib.externals.loky.reusable_executor")
    if loky is not None and loky._executor is not None:
        loky._executor.shutdown(wait=True, kill_workers=True)
    if "ray" in sys.modules:
        import ray

        ray.shutdown()
