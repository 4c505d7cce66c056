"""What the axes of a measure's curve are, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_OUTPUT = "mean {output} of the explained class"
_GAIN = f"{_OUTPUT} with the least important {{feature}}s hidden, less that with the most important hidden"
_ACCURACY = "accuracy of a model that was trained anew"
_HIDDEN = "{feature}s hidden, most important first"
# What is drawn, and over what; another measure's curve says no more than its name.
_AXES = {
    "deletion": (_OUTPUT, _HIDDEN),
    "insertion": (_OUTPUT, "{feature}s shown, most important first"),
    "morf_lerf": (_GAIN, "{feature}s hidden"),
    "srg": (_GAIN, "{feature}s hidden"),
    "roar": (_ACCURACY, _HIDDEN),
    "recursive_roar": (_ACCURACY, _HIDDEN),
    "model_randomisation": ("mean rank correlation with the attribution of the whole model", "weights made random"),
}


def axes(metric: str, protocol: Mapping[str, Any]) -> tuple[str, str]:
    """What a curve shows, and over what.

    Args:
        metric: the measure whose curve it is.
        protocol: whose output and feature unit are named.
    """
    drawn, along = _AXES.get(metric, ("mean over the examples", "share of the {feature}s"))
    words = {name: str(protocol[name]).replace("_", " ") for name in ("output", "feature")}
    return drawn.format(**words), along.format(**words)
