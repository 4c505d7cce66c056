"""Which examples a plan looks at: a few, spread over the lengths of all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from assay.encoding import Encoding


def spread(encodings: Sequence[Encoding], count: int) -> list[int]:
    """The places of examples from the shortest to the longest, at even steps through all, by number of tokens.

    Those that say most come first, in case there is no time for all: one from the shorter and one from the longer
    half, then the rest from the shortest on. Examples with nothing to explain are left out where there are others.

    Args:
        encodings: of all examples.
        count: how many; fewer where there are fewer.
    """
    able = [place for place, encoding in enumerate(encodings) if encoding.n > 0] or list(range(len(encodings)))
    by_length = sorted(able, key=lambda place: (len(encodings[place].row.ids), encodings[place].n, place))
    steps = np.linspace(0, len(by_length) - 1, min(count, len(by_length))).round().astype(int)
    chosen = [by_length[step] for step in steps]
    first = dict.fromkeys([chosen[len(chosen) // 4], chosen[-1 - len(chosen) // 4]])
    return [*first, *(place for place in chosen if place not in first)]
