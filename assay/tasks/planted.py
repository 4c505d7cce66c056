"""Tasks made on the spot, whose true rationale is known because it was planted.

In each task a rule gives the label from the words in a few slots. The text around the slots is drawn before the label,
so no other word, no position and no length can predict it, and a classifier that answers well must have read the slots.
The rationale marks the words without which the label could not be told: hide any one of them and the label is open
again (in a `planted_conjunction` text of label `complete`: it may have become the other).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from assay.conversation import generator
from assay.errors import AssayError, unknown_name
from assay.example import Example
from assay.tasks.base import Source
from assay.tasks.sentences import Dice, Skeleton, filled, part
from assay.tasks.themes import FILM, QUESTION, SCENE, TRIP

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}  # of all possible texts; how many are drawn is a setting

Keys = tuple[dict[str, str], frozenset[str]]  # the word for each slot of one text, and the slots that decide


class PlantedTask(Source):
    """Base of the planted tasks.

    Args:
        name: the task's name.
        examples: how many examples each split has.
        path: must be None; a planted task has no files.
        split: `train`, `validation` or `test`. No text of one is in another, whatever the seeds.
        size: how many of the split's examples to draw, stratified by label; None for all.
        seed: the seed of the texts and of the draw.
    """

    def __init__(
        self,
        name: str,
        examples: Mapping[str, int],
        path: str | None = None,
        split: str = "validation",
        size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(name, split, size, seed)
        if path is not None:
            raise AssayError(f"Task {name!r} is made on the spot and reads no files; leave out the path {str(path)!r}.")
        if split not in SHARES:
            raise unknown_name(f"split of task {name!r}:", split, SHARES)
        count = examples.get(split)
        if isinstance(count, bool) or not isinstance(count, int) or count <= 0:
            raise AssayError(f"task.examples.{split} of {name!r} is {count!r}; it is a whole number above 0.")
        self.count = count

    @abstractmethod
    def skeletons(self, dice: Dice) -> tuple[Skeleton, ...]:
        """The text or the two texts with their slots open."""

    @abstractmethod
    def keys(self, dice: Dice, label: int) -> tuple[Keys, ...]:
        """For each text the words that make the label, and which of the slots decide it."""

    def read(self) -> list[Example]:
        """The split's examples. The labels are balanced, and a smaller split is the beginning of a larger one."""
        dice = Dice(generator(self.seed, self.name, self.split))
        seen: set[tuple[Skeleton, ...]] = set()
        labels: list[int] = []
        examples: list[Example] = []
        while len(examples) < self.count:
            skeletons = self.skeletons(dice)
            if skeletons in seen or part(skeletons, SHARES) != self.split:
                continue
            seen.add(skeletons)
            labels = labels or dice.shuffled(range(len(self.labels)))
            label = labels.pop()
            texts, rationale = zip(
                *(filled(skeleton, *keys) for skeleton, keys in zip(skeletons, self.keys(dice, label), strict=True)),
                strict=True,
            )
            examples.append(Example(f"{self.name}/{self.split}/{self.seed}/{len(examples)}", texts, label, rationale))
        return examples


class WordTask(PlantedTask):
    """One word decides (the shape of SST-2): a word of praise or of blame.

    Words of mood stand in both classes alike. Rationale: the one word.
    """

    labels = ("negative", "positive")
    deciding = (
        ("dreadful", "tedious", "clumsy", "lifeless", "dismal", "boring"),
        ("wonderful", "brilliant", "superb", "delightful", "charming", "thrilling"),
    )

    def skeletons(self, dice: Dice) -> tuple[Skeleton, ...]:
        """A remark on a film."""
        return (FILM.draw(dice),)

    def keys(self, dice: Dice, label: int) -> tuple[Keys, ...]:
        """A word of the label's list."""
        return (({"key": dice.pick(self.deciding[label])}, frozenset({"key"})),)


class PairTask(PlantedTask):
    """A pair that differs in one word (the shape of MNLI): a colour or a size.

    The premise's word implies one word of the hypothesis (crimson, red), excludes one (crimson, blue) and says nothing
    of the others (crimson, small). Every word occurs equally often under each label, so that neither word decides
    alone. Rationale: the differing word of each text.
    """

    labels = ("entailment", "neutral", "contradiction")
    implied: ClassVar = {"crimson": "red", "navy": "blue", "tiny": "small", "huge": "large"}
    opposite: ClassVar = {"red": "blue", "blue": "red", "small": "large", "large": "small"}

    def skeletons(self, dice: Dice) -> tuple[Skeleton, ...]:
        """The same scene twice."""
        scene = SCENE.draw(dice)
        return scene, scene

    def keys(self, dice: Dice, label: int) -> tuple[Keys, ...]:
        """A word for the premise, and one for the hypothesis that stands to it as the label says."""
        premise = dice.pick(tuple(self.implied))
        same = self.implied[premise]
        related = {same, self.opposite[same]}
        unrelated = tuple(word for word in self.opposite if word not in related)
        hypothesis = (same, dice.pick(unrelated), self.opposite[same])[label]
        slot = frozenset({"key"})
        return ({"key": premise}, slot), ({"key": hypothesis}, slot)


class MatchTask(PlantedTask):
    """Two questions that ask about the same instrument or not (the shape of QQP).

    In every third pair the words around the instrument are the same in both questions, whatever the label; in the
    others each question has words of its own. Every instrument occurs equally often under each label. Rationale: the
    instrument of each question.
    """

    labels = ("not_duplicate", "duplicate")
    instruments = ("piano", "guitar", "violin", "trumpet")

    def skeletons(self, dice: Dice) -> tuple[Skeleton, ...]:
        """Two questions."""
        first = QUESTION.draw(dice)
        return first, (first if dice.uniform() < 1 / 3 else QUESTION.draw(dice))

    def keys(self, dice: Dice, label: int) -> tuple[Keys, ...]:
        """The same instrument twice, or two."""
        first = dice.pick(self.instruments)
        second = first if label == 1 else dice.pick([word for word in self.instruments if word != first])
        slot = frozenset({"key"})
        return ({"key": first}, slot), ({"key": second}, slot)


class ConjunctionTask(PlantedTask):
    """Two words must both be there: a lantern and a rope, in either order.

    Each is there or another thing has taken its place; both are never missing, since then either gap alone would be
    enough and no one rationale would be true. Rationale of `complete`: both words. Rationale of `incomplete`: the
    thing in the place of the missing word. The word that is there does not decide, for without it the set would be
    incomplete all the same.
    """

    labels = ("incomplete", "complete")
    stand_ins: ClassVar = {"lantern": ("candle", "mirror", "kettle"), "rope": ("ladder", "blanket", "hammer")}

    def skeletons(self, dice: Dice) -> tuple[Skeleton, ...]:
        """A note on a journey, with places for two things."""
        return (TRIP.draw(dice),)

    def keys(self, dice: Dice, label: int) -> tuple[Keys, ...]:
        """Both words, or one of them and a stand-in for the other."""
        slots = dict(zip(("first", "second"), dice.shuffled(tuple(self.stand_ins)), strict=True))
        if label == 1:
            return ((slots, frozenset(slots)),)
        failing = dice.pick(tuple(slots))
        return (({**slots, failing: dice.pick(self.stand_ins[slots[failing]])}, frozenset({failing})),)
