"""Questions about embeddings that stay in part, beside rows that are hidden in other ways."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import pytest

from assay import registry
from assay.benchmark.engine import Engine
from assay.benchmark.talk import Outcome
from assay.conversation import Answer, Keep, Soften
from assay.example import Example
from tests.tiny_models import tiny_classifier

EXAMPLE = Example("one", ("a dull film with no plot",))


def ask(question: Keep | Soften) -> Generator[Keep | Soften, Answer, Answer]:
    return (yield question)


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_every_way_of_hiding_can_wait_in_one_engine(architecture: str) -> None:
    """Rows of one length whose embeddings are hidden word by word, element by element, or not at all."""
    model = tiny_classifier(architecture)
    encoding = model.encode(EXAMPLE)
    keep = np.tri(encoding.n, dtype=np.bool_)
    names = ("mask", "delete", "zero_embedding", "pad") if architecture == "bert" else ("delete", "zero_embedding")
    asked: dict[str, Keep | Soften] = dict.fromkeys(names, keep)
    asked["soft"] = Soften(keep.astype(np.float64) * 0.5, draws=3)

    def answers(questions: dict[str, Keep | Soften]) -> dict[str, Answer]:
        engine, found = Engine(model), dict[str, Answer]()

        def finish_as(name: str):  # type: ignore[no-untyped-def]
            def finish(outcome: Outcome) -> None:
                assert outcome.error is None
                found[name] = outcome.result

            return finish

        for name, question in questions.items():
            hiding = registry.build("perturbation", "delete" if name == "soft" else name)
            engine.add(ask(question), encoding, hiding, finish_as(name))
        engine.run()
        return found

    together = answers(asked)
    for name, question in asked.items():
        np.testing.assert_allclose(together[name], answers({name: question})[name], atol=1e-5)


def test_a_retention_of_zero_or_one_is_a_mask_of_embeddings() -> None:
    model = tiny_classifier("bert")
    encoding = model.encode(EXAMPLE)
    keep = np.tri(encoding.n, encoding.n, dtype=np.bool_)
    engine, found = Engine(model), list[Answer]()
    for question in (keep, Soften(keep.astype(np.float64), draws=2)):
        engine.add(
            ask(question),
            encoding,
            registry.build("perturbation", "zero_embedding"),
            lambda outcome: found.append(outcome.result),
        )
    engine.run()
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize("retention", [np.full((1, 2), 0.5), np.full((1, 6), 1.5), np.full((1, 6), np.nan)])
def test_retentions_that_are_no_chances_are_refused(retention: np.ndarray) -> None:
    model = tiny_classifier("bert")
    found: list[Outcome] = []
    engine = Engine(model)
    hiding = registry.build("perturbation", "mask")
    engine.add(ask(Soften(retention)), model.encode(EXAMPLE), hiding, found.append)
    engine.run()
    assert "chances from 0 to 1" in str(found[0].error)


def test_the_last_bit_of_a_chance_does_not_change_the_draws() -> None:
    from assay.conversation import Soften
    from assay.example import Example
    from assay.perturbation import soften
    from tests.tiny_models import tiny_classifier

    encoding = tiny_classifier("bert").encode(Example("one", ("a dull film",)))
    chances = np.array([[0.2, 0.5, 0.9]])
    plain, moved = (soften(encoding, Soften(one, draws=2), 32) for one in (chances, chances * (1 + 1e-12)))
    assert [row.key for row in plain] == [row.key for row in moved]
    assert len({row.key for row in plain}) == 2
