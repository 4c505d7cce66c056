"""From what other packages return to attributions of words.

Every converter takes the package's own objects and asks for no import of the package. It returns an attribution for
each text, over the words that Assay scores: a word is what stands between white space, keyed by its text and its place,
and scores the sum over its tokens, which is what keeps a complete method complete. Special tokens are dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.alignment import Ids, check_covered, check_same, encoded, in_prompt, located
from assay.conversation import Attribution, Vector
from assay.encoding import Encoding, Row, Subwords, encode, find_features
from assay.errors import AssayError, unknown_name
from assay.example import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Text = str | tuple[str, str]


def from_captum(
    scores: Any,
    encoding: Mapping[str, Any],
    texts: Sequence[Text],
    tokenizer: PreTrainedTokenizerBase,
    target: int | Sequence[int],
    signed: bool = True,
    subwords: Subwords = "sum",
) -> list[Attribution]:
    """Attributions of words from an array of scores of tokens, as captum's `attribute` returns it, or any other tool.

    Args:
        scores: [batch, tokens], or [batch, tokens, width], which is summed over the width; an array or a tensor.
        encoding: what the tokenizer made of the texts: `input_ids` [batch, tokens], and where rows are padded
            `attention_mask`.
        texts: the texts, or pairs of texts.
        tokenizer: what made the encoding.
        target: the class that was explained, by its index; one for all texts, or one for each.
        signed: whether the sign of a score has a meaning (positive = speaks for the target).
        subwords: how the scores of a word's tokens become the word's: `sum`, `mean`, `max` or `first`.

    Raises:
        AssayError: shapes that do not fit, or an encoding that is not the tokenizer's of these texts.
    """
    array = _array(scores, "The scores")
    ids, shown = _ids(encoding)
    if len(ids) != len(texts):
        raise AssayError(f"There are {len(texts)} texts and {len(ids)} rows of tokens; there must be one for each.")
    if array.ndim not in (2, 3) or array.shape[:2] != ids.shape:
        raise AssayError(
            f"The scores have shape {array.shape} for tokens of shape {ids.shape}; they must be [batch, tokens] or "
            "[batch, tokens, width], a score for each token of the encoding, padding included."
        )
    if array.ndim == 3:
        array = array.sum(axis=2)
    found = []
    for place, (text, row, kept, explained) in enumerate(
        zip(texts, ids, shown, _targets(target, len(texts)), strict=True)
    ):
        words = encoded(_example(text, f"text {place}"), row[kept], tokenizer)
        found.append(_attribution(words, array[place, kept], explained, signed, subwords))
    return found


def from_shap(
    explanation: Any,
    texts: Sequence[Text],
    target: int | str | Sequence[int | str],
    labels: Sequence[str] | None = None,
    separator: str = "",
    subwords: Subwords = "sum",
) -> list[Attribution]:
    """Attributions of words from a `shap.Explanation` that an explainer with a text masker returned.

    Args:
        explanation: of several texts, or of one; of all outputs, or of one output.
        texts: the texts that were explained; a pair was explained as its two texts with `separator` between them.
        target: the class whose scores to take, by its index or its name among the outputs; one for all texts or one for
            each.
        labels: the names of the classes; None for the explanation's `output_names`.
        separator: what stood between the texts of a pair. What it scores is left out.
        subwords: how the scores of a word's pieces become the word's.

    Raises:
        AssayError: something that an explanation of texts has is missing, pieces that are not those of the texts, words
            that the masker does not see, or an unknown class.
    """
    _demand(explanation, "shap's Explanation", "data", "values", "output_names")
    data, values = explanation.data, explanation.values
    if all(isinstance(piece, str) for piece in data):
        data, values = [data], [values]
    if len(data) != len(texts):
        raise AssayError(f"There are {len(texts)} texts and {len(data)} explanations; there must be one for each.")
    outputs = explanation.output_names
    names = [str(name) for name in outputs] if isinstance(outputs, list | tuple | np.ndarray) else None
    classes = labels if labels is not None else names
    found = []
    for place, (text, pieces, scores, wanted) in enumerate(
        zip(texts, data, values, _targets(target, len(texts)), strict=True)
    ):
        where = f"text {place}"
        index = _class(wanted, classes)
        array = _array(scores, f"The values of {where}")
        if array.ndim == 2:
            if not 0 <= index < array.shape[1]:
                raise AssayError(f"{where} is explained for {array.shape[1]} outputs, and there is no class {index}.")
            array = array[:, index]
        if array.shape != (len(pieces),):
            raise AssayError(f"{where} has {len(pieces)} pieces of text and values of shape {array.shape}.")
        example = _example(text, where)
        places = list(located([str(piece) for piece in pieces], example.text, separator, where))
        words = find_features(example, Row(np.zeros(len(places), dtype=np.int64)), places)
        check_covered(words, example, cut_off=False)
        found.append(_attribution(words, array, index, True, subwords))
    return found


def from_ferret(
    explanations: Any, tokenizer: PreTrainedTokenizerBase, signed: bool = True, subwords: Subwords = "sum"
) -> list[Attribution]:
    """Attributions of words from ferret's `Explanation`, or a list of them as its `Benchmark.explain` returns.

    Args:
        explanations: one or several.
        tokenizer: that of the model that was explained.
        signed: whether the sign of a score has a meaning.
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        AssayError: something that an explanation has is missing, or tokens that are not the tokenizer's.
    """
    found = []
    for place, one in enumerate([explanations] if hasattr(explanations, "tokens") else explanations):
        where = f"explanation {place}"
        _demand(one, "ferret's Explanation", "text", "tokens", "scores", "target")
        ids = np.array(tokenizer.convert_tokens_to_ids(list(one.tokens)), dtype=np.int64)
        words = encoded(_example(one.text, where), ids, tokenizer)
        scores = _array(one.scores, f"The scores of {where}")
        found.append(_attribution(words, scores, int(one.target), signed, subwords))
    return found


def from_interpreto(
    outputs: Any,
    texts: Sequence[Text],
    tokenizer: PreTrainedTokenizerBase,
    target: int | None = None,
    signed: bool = True,
    subwords: Subwords = "sum",
) -> list[Attribution]:
    """Attributions of words from interpreto's `AttributionOutput`, or a list of them as its explainers return.

    The granularities `ALL_TOKENS`, `TOKEN` and `WORD` can be had; interpreto's words, which a tokenizer parts at
    punctuation, are pieces of Assay's.

    Args:
        outputs: one or several.
        texts: the text of each.
        tokenizer: that of the model that was explained.
        target: the class whose scores to take, by its index; None for the only one that was explained.
        signed: whether the sign of a score has a meaning.
        subwords: how the scores of a word's tokens or pieces become the word's.

    Raises:
        AssayError: something that an output has is missing, another granularity, tokens that are not the tokenizer's,
            or a class that was not explained.
    """
    several = [outputs] if hasattr(outputs, "attributions") else list(outputs)
    if len(several) != len(texts):
        raise AssayError(f"There are {len(texts)} texts and {len(several)} outputs; there must be one for each.")
    found = []
    for place, (one, text) in enumerate(zip(several, texts, strict=True)):
        where = f"text {place}"
        _demand(
            one,
            "interpreto's AttributionOutput",
            *("attributions", "elements", "model_inputs_to_explain", "targets", "granularity"),
        )
        array = np.atleast_2d(_array(one.attributions, f"The attributions of {where}"))
        explained = [int(index) for index in np.atleast_1d(_array(one.targets, f"The targets of {where}"))]
        if len(explained) != len(array):
            raise AssayError(f"{where} has {len(array)} rows of attributions and {len(explained)} targets.")
        if target is None and len(explained) > 1:
            raise AssayError(f"{where} is explained for the classes {explained}; name one as target=...")
        if target is not None and target not in explained:
            raise AssayError(f"{where} is explained for the classes {explained}, not for {target}.")
        row = 0 if target is None else explained.index(target)
        rows, shown = _ids(one.model_inputs_to_explain)
        ids = rows[0, shown[0]]
        words = encoded(_example(text, where), ids, tokenizer)
        tokens = _first_tokens(str(getattr(one.granularity, "value", one.granularity)), text, ids, tokenizer, where)
        if array.shape[1] != len(tokens):
            raise AssayError(f"{where} has {array.shape[1]} scores for {len(tokens)} elements of the model's input.")
        scores = np.full(len(ids), np.nan)
        scores[tokens] = array[row]
        unscored = np.isnan(scores) & (words.feature_of_token >= 0)
        lost = set(range(words.n)) - set(words.feature_of_token[~unscored].tolist())
        if lost:
            raise AssayError(
                f"{where}: interpreto gives no score for {words.features[min(lost)].text!r}: at this granularity it "
                "leaves out what the tokenizer does not know. Explain with Granularity.ALL_TOKENS."
            )
        # What interpreto takes for a word scores at its first token.
        feature_of_token = np.where(np.isnan(scores), -1, words.feature_of_token)
        words = replace(words, feature_of_token=feature_of_token)
        found.append(_attribution(words, scores, explained[row], signed, subwords))
    return found


def from_inseq(
    output: Any,
    texts: Sequence[Text],
    tokenizer: PreTrainedTokenizerBase,
    target: int | Sequence[int],
    signed: bool = True,
    subwords: Subwords = "sum",
) -> list[Attribution]:
    """Attributions of words from inseq's `FeatureAttributionOutput`, for a model that answers with a label word.

    What was generated after the prompt is taken for the label word; the scores of its tokens are added up. Of the
    prompt, only the words of the text itself count.

    Args:
        output: with a prompt for each text, its scores one for each token: `output.aggregate()` where a method scores
            each element of an embedding.
        texts: the text, or the two texts, that stand in each prompt.
        tokenizer: the model's.
        target: the class that the label word stands for, by its index; one for all texts, or one for each.
        signed: whether the sign of a score has a meaning; inseq's `aggregate` takes norms, which have none.
        subwords: how the scores of a word's tokens become the word's.

    Raises:
        AssayError: something that an output has is missing, tokens that are not the tokenizer's, a text that does not
            stand in its prompt once, or scores that have not been aggregated.
    """
    _demand(output, "inseq's FeatureAttributionOutput", "sequence_attributions", "info")
    prompts = output.info.get("input_texts")
    if prompts is None:
        raise AssayError(
            "The output's info has no input_texts, so it is not known where in the prompt the text stands."
        )
    sequences = list(output.sequence_attributions)
    if not len(sequences) == len(prompts) == len(texts):
        raise AssayError(
            f"There are {len(texts)} texts, {len(prompts)} prompts and {len(sequences)} attributions; "
            "there must be as many of each."
        )
    found = []
    for place, (one, prompt, text, explained) in enumerate(
        zip(sequences, prompts, texts, _targets(target, len(texts)), strict=True)
    ):
        where = f"text {place}"
        _demand(one, "inseq's FeatureAttributionSequenceOutput", "source", "source_attributions", "target_attributions")
        alone = one.source_attributions is None
        array = _array(one.target_attributions if alone else one.source_attributions, f"The attributions of {where}")
        if array.ndim != 2:
            raise AssayError(
                f"The attributions of {where} have shape {array.shape}; they must be one for each token of the prompt "
                "and step. Call output.aggregate() first."
            )
        ids = np.array([token.id for token in one.source], dtype=np.int64)
        encoding = encode(Example(where, (str(prompt),)), tokenizer, len(ids))
        check_same(ids, encoding.row.ids, tokenizer, where)
        example = _example(text, where)
        places = in_prompt(str(prompt), example.text, len(ids), tokenizer, where)
        words = find_features(example, Row(ids), places)
        scores = array[: len(ids)].sum(axis=1)
        found.append(_attribution(words, scores, explained, signed, subwords))
    return found


def _demand(given: Any, what: str, *names: str) -> None:
    """See that an object has what is read of it."""
    missing = [name for name in names if not hasattr(given, name)]
    if missing:
        raise AssayError(f"{type(given).__name__} has no {', '.join(missing)}; it must be {what}.")


def _array(values: Any, what: str) -> Vector:
    """An array or a tensor as numbers of its own; the tensor stays as it was."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise AssayError(f"{what} are not an array of numbers: {error}.") from error


def _targets(target: Any, count: int) -> list[Any]:
    if isinstance(target, int | str | np.integer):
        return [target] * count
    several = [one.item() if hasattr(one, "item") else one for one in target]
    if len(several) != count:
        raise AssayError(f"There are {count} texts and {len(several)} targets; there must be one for each, or one.")
    return several


def _class(wanted: int | str, labels: Sequence[str] | None) -> int:
    if not isinstance(wanted, str):
        return int(wanted)
    if labels is None:
        raise AssayError(f"target={wanted!r} is a name, and the outputs have none. Give labels=[...], or an index.")
    if wanted not in labels:
        raise unknown_name("class", wanted, labels)
    return list(labels).index(wanted)


def _example(text: Text, where: str) -> Example:
    return Example(where, (text,) if isinstance(text, str) else tuple(text))


def _ids(encoding: Any) -> tuple[Ids, NDArray[np.bool_]]:
    """The ids, [batch, tokens], and which of them are no padding."""
    try:
        ids, mask = encoding["input_ids"], encoding.get("attention_mask")
    except (AttributeError, KeyError, TypeError) as error:
        raise AssayError("The encoding has no input_ids; it must be what the tokenizer returns.") from error
    table = np.atleast_2d(_array(ids, "The input_ids").astype(np.int64))
    if mask is None:
        return table, np.ones(table.shape, dtype=np.bool_)
    return table, np.atleast_2d(_array(mask, "The attention_mask")) > 0


def _attribution(words: Encoding, scores: Vector, target: int, signed: bool, subwords: Subwords) -> Attribution:
    where = words.id
    if scores.shape != words.feature_of_token.shape:
        raise AssayError(f"{where} has scores of shape {scores.shape} for {len(words.feature_of_token)} tokens.")
    wrong = np.flatnonzero(~np.isfinite(scores) & (words.feature_of_token >= 0))
    if len(wrong):
        raise AssayError(f"{where}: the score of token {wrong[0]} is {scores[wrong[0]]}; it must be a finite number.")
    return Attribution(words.features, words.feature_scores(scores, subwords), target, signed)


def _first_tokens(
    granularity: str, text: Text, ids: Ids, tokenizer: PreTrainedTokenizerBase, where: str
) -> NDArray[np.intp]:
    """The token at which each element of interpreto's begins."""
    if granularity == "all_tokens":
        return np.arange(len(ids))
    if granularity == "token":
        return np.flatnonzero(~np.isin(ids, tokenizer.all_special_ids))
    if granularity == "word" and isinstance(text, str):
        first: dict[int, int] = {}
        for token, word in enumerate(tokenizer(text).word_ids()[: len(ids)]):
            if word is not None:
                first.setdefault(word, token)
        return np.array(list(first.values()), dtype=np.intp)
    raise AssayError(
        f"{where} is explained at the granularity {granularity!r}, whose elements are not parts of words. "
        "Explain with Granularity.ALL_TOKENS or TOKEN, or a single text with WORD."
    )
