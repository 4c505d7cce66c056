"""Matching a model's classes to a task's labels by name, and the check that the match makes sense."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from assay.errors import AssayError

_NOTHING_SAID = re.compile(r"(label|class)?[ _-]?\d+", re.IGNORECASE)


@dataclass(frozen=True)
class LabelMatch:
    """Which of a model's classes stands for each of a task's labels.

    Attributes:
        class_of_label: [labels], an index into the model's classes.
        by_name: whether the names said so; otherwise the order was taken on trust.
    """

    class_of_label: tuple[int, ...]
    by_name: bool


def match_labels(task_labels: Sequence[str], model_labels: Sequence[str]) -> LabelMatch:
    """Match by name where the model's names say something, by position where they do not (`LABEL_0`).

    Raises:
        AssayError: another number of classes, or names that contradict the task's.
    """
    if len(task_labels) != len(model_labels):
        raise AssayError(
            f"The task has {len(task_labels)} labels ({', '.join(task_labels)}), "
            f"the model {len(model_labels)} classes ({', '.join(model_labels)}). "
            "Choose a model that was fine-tuned for this task."
        )
    by_position = LabelMatch(tuple(range(len(task_labels))), by_name=False)
    if all(_NOTHING_SAID.fullmatch(label) for label in model_labels):
        return by_position
    wanted = [_plain(label) for label in task_labels]
    offered = [_plain(label) for label in model_labels]
    if len(set(wanted)) < len(wanted) or len(set(offered)) < len(offered):
        # Names such as + and - differ in nothing but their signs.
        wanted, offered = list(task_labels), list(model_labels)
    known = set(wanted) & set(offered)
    if not known:
        return by_position
    if known != set(wanted):
        raise AssayError(
            f"The model's classes ({', '.join(model_labels)}) match only some of the task's labels "
            f"({', '.join(task_labels)}). Correct id2label in the model's config.json."
        )
    return LabelMatch(tuple(offered.index(label) for label in wanted), by_name=True)


def _plain(label: str) -> str:
    return "".join(letter for letter in label.casefold() if letter.isalnum())


def check_accuracy(accuracy: float, majority: float, match: LabelMatch, allowed: bool) -> str | None:
    """What to tell the user of the accuracy, if anything.

    Raises:
        AssayError: it is below that of always naming the largest class, and that is not allowed.
    """
    if accuracy < majority and not allowed:
        reason = (
            "The model was probably trained for another task or with another preprocessing."
            if match.by_name
            else "Its class names say nothing, so its classes were taken in the task's order, which is probably wrong: "
            "correct id2label in the model's config.json."
        )
        raise AssayError(
            f"The model's accuracy is {accuracy:.3f}, below the {majority:.3f} of always naming the largest class. "
            f"{reason} To go on all the same, set allow_low_accuracy=true."
        )
    if not match.by_name:
        return (
            f"The model's class names say nothing; its classes are taken in the task's order (accuracy {accuracy:.3f})."
        )
    return None
