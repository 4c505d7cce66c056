import re
import subprocess
import sys
from itertools import chain

import numpy as np
import pytest

from assay.errors import AssayError
from assay.example import Example
from assay.tasks import Task, load_task, themes
from assay.tasks.planted import ConjunctionTask, MatchTask, PairTask, WordTask

NAMES = ("planted_word", "planted_pair", "planted_match", "planted_conjunction")
SLOT_WORDS = {
    "planted_word": {word for words in WordTask.deciding for word in words},
    "planted_pair": {*PairTask.implied, *PairTask.opposite},
    "planted_match": set(MatchTask.instruments),
    "planted_conjunction": {*ConjunctionTask.stand_ins, *chain.from_iterable(ConjunctionTask.stand_ins.values())},
}
THEMES = dict(zip(NAMES, (themes.FILM, themes.SCENE, themes.QUESTION, themes.TRIP), strict=True))


def bare(word: str) -> str:
    return word.lower().strip(".,!?")


def words(text: str) -> list[str]:
    return [bare(word) for word in text.split()]


def marked(example: Example) -> list[list[str]]:
    assert example.rationale is not None
    return [
        [word for word, flag in zip(words(text), flags, strict=True) if flag]
        for text, flags in zip(example.text, example.rationale, strict=True)
    ]


@pytest.fixture(scope="module", params=NAMES)
def task(request: pytest.FixtureRequest) -> Task:
    return load_task(request.param, split="train")


def test_texts_have_4_to_40_words_of_many_lengths_and_balanced_labels(task: Task) -> None:
    lengths = [len(text.split()) for example in task for text in example.text]
    assert min(lengths) == 4
    assert max(lengths) == 40
    assert len(set(lengths)) == 37
    assert task.majority == pytest.approx(1 / len(task.labels), abs=0.001)
    assert task.has_rationales


def test_no_word_that_decides_stands_outside_the_slots(task: Task) -> None:
    theme = THEMES[task.name]
    phrases = [*(body for core in theme.cores for body in core), *theme.leads, *theme.tails, *theme.fillers]
    phrases += [word for options in theme.words.values() for word in options]
    outside = {bare(word) for phrase in phrases for word in re.sub(r"[<{]\w+[>}]", "", phrase).split()}
    assert not outside & SLOT_WORDS[task.name]


def test_the_rule_gives_the_label_from_the_marked_words_alone(task: Task) -> None:
    for example in task:
        found = marked(example)
        assert example.label is not None
        label = task.labels[example.label]
        if task.name == "planted_word":
            assert found[0][0] in WordTask.deciding[example.label]
        elif task.name == "planted_pair":
            (premise,), (hypothesis,) = found
            same = PairTask.implied[premise]
            related = {same: "entailment", PairTask.opposite[same]: "contradiction"}
            assert label == related.get(hypothesis, "neutral")
        elif task.name == "planted_match":
            (first,), (second,) = found
            assert label == ("duplicate" if first == second else "not_duplicate")
        elif label == "complete":
            assert sorted(found[0]) == ["lantern", "rope"]
        else:
            (stand_in,) = found[0]
            present = next(key for key, others in ConjunctionTask.stand_ins.items() if stand_in not in others)
            assert stand_in not in ConjunctionTask.stand_ins
            assert present in words(example.text[0])


def test_a_pair_differs_in_its_marked_word_alone() -> None:
    for example in load_task("planted_pair"):
        differing = [a != b for a, b in zip(words(example.text[0]), words(example.text[1]), strict=True)]
        assert example.rationale == (tuple(differing), tuple(differing))


@pytest.mark.parametrize("name", ["planted_pair", "planted_match"])
def test_one_word_of_a_pair_says_nothing_about_the_label(name: str) -> None:
    task = load_task(name, split="train")
    for side in (0, 1):
        table: dict[str, list[int]] = {}
        for example in task:
            assert example.label is not None
            table.setdefault(marked(example)[side][0], [0] * len(task.labels))[example.label] += 1
        for counts in table.values():
            assert np.ptp(counts) < 5 * np.sqrt(2 * max(counts))


def test_no_shortcut_predicts_the_label(task: Task) -> None:
    """What stays when the slots are blanked: words, word pairs, length, the places of the slots, and shared words."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    slots = SLOT_WORDS[task.name]

    def blanked(example: Example) -> str:
        return " | ".join(" ".join("_" if word in slots else word for word in words(text)) for text in example.text)

    def shape(texts: list[str]) -> np.ndarray:
        rows = []
        for text in texts:
            parts = [part.split() for part in text.split(" | ")]
            places = [[index for index, word in enumerate(part) if word == "_"] for part in parts]
            lengths = [len(part) for part in parts]
            ends = [length - place[-1] for length, place in zip(lengths, places, strict=True)]
            shared = len(set(parts[0]) & set(parts[-1]))
            rows.append(
                [*lengths, *chain.from_iterable(places), *ends, shared, shared / max(lengths), parts[0] == parts[-1]]
            )
        return np.array(rows, dtype=float)

    train, held_out = task, load_task(task.name, examples={"validation": 1500})
    model = make_pipeline(
        make_union(
            CountVectorizer(token_pattern=r"\S+", ngram_range=(1, 2), min_df=3),
            make_pipeline(FunctionTransformer(shape), StandardScaler()),
        ),
        LogisticRegression(C=0.1, max_iter=500),
    )
    model.fit([blanked(example) for example in train], [example.label for example in train])
    accuracy = model.score([blanked(example) for example in held_out], [example.label for example in held_out])
    chance = 1 / len(task.labels)
    assert accuracy < chance + 3 * np.sqrt(chance * (1 - chance) / len(held_out))


def test_no_text_of_one_split_is_in_another_whatever_the_seed(task: Task) -> None:
    def without_slots(example: Example) -> tuple[str, ...]:
        slots = SLOT_WORDS[task.name]
        return tuple(" ".join("_" if word in slots else word for word in words(text)) for text in example.text)

    train = {without_slots(example) for example in task}
    for split in ("validation", "test"):
        assert not train & {without_slots(example) for example in load_task(task.name, split=split, seed=1)}


def test_a_smaller_split_begins_a_larger_one() -> None:
    small = load_task("planted_match", examples={"validation": 20})
    assert list(small) == list(load_task("planted_match"))[:20]


def test_the_seed_alone_makes_the_texts_in_every_process() -> None:
    code = "from assay.tasks import load_task; print(load_task('planted_pair', size=50, seed=3).fingerprint)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == load_task("planted_pair", size=50, seed=3).fingerprint
    assert answer.stdout.strip() != load_task("planted_pair", size=50, seed=4).fingerprint


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(AssayError, match="reads no files"):
        load_task("planted_word", path="folder")
    with pytest.raises(AssayError, match="Did you mean 'validation'"):
        load_task("planted_word", split="valid")
    with pytest.raises(AssayError, match=r"task\.examples\.test"):
        load_task("planted_word", split="test", examples={"validation": 5})
