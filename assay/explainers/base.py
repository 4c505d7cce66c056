"""What an explainer is: it scores the features of an example, by conversation or with a look inside the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, get_args

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Case, Conversation, Explanation
from assay.encoding import FeatureUnit, Subwords
from assay.errors import near_matches

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.encoding import Batch
    from assay.example import Example
    from assay.perturbation import Perturbation


class Explainer(ABC):  # noqa: B024 (the two kinds below say what a method must do)
    """Base of all explainers. A subclass is one method; its settings are the arguments of its constructor.

    Attributes:
        signed: whether the sign of a score has a meaning (positive = speaks for the target).
        searches: whether it searches for the best ranking of one metric; it is then run once for each metric that has
            an objective, and finds that in `case.objective`.
        repeats: how many attributions to draw for each example; a metric's score is the mean over them.
        background: how many examples of the task's train split it wants to see in `prepare`.
        precomputed: whether its attributions were made beforehand: their cost is unknown, and it cannot be asked about
            another text, model or seed.
    """

    signed: bool = True
    searches: ClassVar[bool] = False
    repeats: int = 1
    background: int = 0
    precomputed: ClassVar[bool] = False

    def check(self, model: Classifier) -> None:  # noqa: B027 (most methods suit every model)
        """Find out, before any work, whether the method is defined for a model.

        Raises:
            AssayError: it is not; the message says why, and what would be right.
        """

    def prepare(  # noqa: B027 (most methods need none)
        self, model: Classifier, background: Sequence[Example]
    ) -> None:
        """Look at examples of the task's train split, once, before the work.

        Args:
            model: the classifier that will be explained.
            background: at most `self.background` examples.
        """


class BlackBoxExplainer(Explainer):
    """An explainer that sees the model's answers only.

    Attributes:
        perturbation: how this method hides features, in place of the run's perturbation; None for the run's. Every
            black-box explainer takes it as a setting, beside those of its constructor.
        asks: whether it asks the model anything; False for what reads the text alone.
        feature: `token` for a method that hides tokens whatever the run scores; a word then scores the sum over its
            tokens. None for the run's unit.
    """

    perturbation: Perturbation | None = None
    asks: ClassVar[bool] = True
    feature: FeatureUnit | None = None

    @abstractmethod
    def converse(self, case: Case) -> Conversation[NDArray[np.floating] | Explanation]:
        """Ask about inputs with features hidden; return one score for each feature, [n]."""

    def check_cases(self, cases: Sequence[Case]) -> None:
        """Find out, before any work, whether the method can explain the cases of a run; asked if it is `precomputed`.

        Args:
            cases: all that `converse` will be handed.

        Raises:
            AssayError: it cannot; the message says which it cannot, and what would be right.
        """


class WhiteBoxExplainer(Explainer):
    """An explainer that needs the inside of the network: gradients, attention, relevance.

    Attributes:
        scores_features: whether `attribute` scores the features themselves in place of the tokens.
        subwords: how the scores of a word's tokens become the word's: their `sum`, their `mean`, `max` (the one of the
            largest magnitude, with its sign) or `first`. The sum is the default: it is what keeps a complete method
            complete, and what hiding the whole word at once amounts to where a model is linear.
        attention_copies: how many times the method holds the attention weights of all layers and heads, tokens² numbers
            for each head, as was measured; 0 where it holds none.

    Args:
        subwords: see above.

    Raises:
        ValueError: an unknown way.
    """

    scores_features: ClassVar[bool] = False
    subwords: Subwords = "sum"
    attention_copies: ClassVar[float] = 0.0

    def __init__(self, subwords: Subwords = "sum") -> None:
        if subwords not in get_args(Subwords):
            raise ValueError(f"unknown subwords {subwords!r}. {near_matches(str(subwords), get_args(Subwords))}")
        self.subwords = subwords

    def memory(self, model: Classifier, tokens: int) -> float:
        """About how many bytes the method takes for a single text, beyond what grows with its tokens alone.

        Args:
            model: the classifier.
            tokens: the text's, special tokens included.
        """
        config = model.model.config
        layers, heads = (getattr(config, name, None) or 1 for name in ("num_hidden_layers", "num_attention_heads"))
        return self.attention_copies * 4.0 * layers * heads * tokens**2

    @abstractmethod
    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor | Explanation:
        """Scores for each token, [batch, tokens]; padding and special tokens are ignored by the caller.

        Where the class `scores_features`, scores for each feature, [batch, features], padded on the right.

        Args:
            model: the classifier, in eval mode with frozen parameters.
            batch: the encoded examples; `batch.output` is the output to explain.
            target: [batch], the class that is explained for each example.
        """
