"""Numbers for people: counts, durations and sizes in three digits or so."""

from __future__ import annotations

import math


def amount(number: float) -> str:
    """A count: `950`, `12,300`, `4.2 M`."""
    if number < 1e6:
        return f"{number:,.0f}"
    return f"{number / 1e6:,.1f} M" if number < 1e9 else f"{number / 1e9:,.1f} G"


def duration(seconds: float) -> str:
    """A time: `4.2 s`, `80 s`, `12 min`, `3.4 h`, `2.5 days`, or `unknown` without end."""
    if math.isinf(seconds):
        return "unknown"
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def share(number: float) -> str:
    """A share: `12%`, or `unknown` without end."""
    return "unknown" if math.isinf(number) else f"{number:.0%}"


def size(count: float) -> str:
    """Bytes: `900 bytes`, `12.3 kB`, `4.5 GB`."""
    if count < 1000:
        return f"{count:.0f} bytes"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if count < 999.5:
            return f"{count:,.0f} {unit}" if count >= 99.5 else f"{count:.1f} {unit}"
    return f"{count / 1000:,.1f} TB"
