"""Explainers that hide parts of the input under the laws, one row each."""

from tests.explainers.row import Row
from tests.tiny_masked_lm import tiny_masked_lm

ROWS = (
    Row(
        "leave_one_out",
        bad=(
            ({"unit": "word"}, "unknown unit 'word'. Known: feature, sentence, span"),
            ({"window": 0}, "window must be at least 1, not 0"),
        ),
    ),
    Row(
        "loo_embedding",
        bad=(
            ({"replacement": "zeros"}, "unknown replacement 'zeros'. Did you mean 'zero'"),
            ({"samples": 0}, "samples must be at least 1, not 0"),
        ),
    ),
    Row(
        "loo_hidden",
        bad=(
            ({"layer": "last"}, "layer must be a whole number, not 'last'"),
            ({"layer": True}, "layer must be a whole number, not True"),
            ({"replacement": "noise"}, "unknown replacement 'noise'. Known: mean, zero"),
        ),
        unsupported=("linear",),
    ),
    Row(
        "input_reduction",
        signed=False,
        quick={"beam": 2, "candidates": 2},
        bad=(
            ({"beam": 0}, "beam must be at least 1, not 0"),
            ({"candidates": 0}, "candidates must be at least 1, not 0"),
        ),
    ),
    Row(
        "olm",
        quick={"masked_lm": tiny_masked_lm(), "samples": 2},
        bad=(({"samples": 0}, "samples must be at least 1, not 0"),),
        unsupported=("gpt2",),  # another tokenizer than the masked LM's
    ),
    Row(
        "rise",
        random=True,
        quick={"samples": 50},
        bad=(
            ({"samples": 0}, "samples must be at least 1, not 0"),
            ({"p": 0}, "p must be a number between 0 and 1, both excluded, not 0"),
            ({"p": 1.0}, "p must be a number between 0 and 1"),
            ({"p": "half"}, "p must be a number between 0 and 1"),
        ),
    ),
    Row(
        "sobol",
        signed=False,
        random=True,
        quick={"designs": 2},
        bad=(
            ({"designs": 0}, "designs must be at least 2, not 0"),
            ({"designs": 48}, "designs must be a power of two, not 48"),
        ),
    ),
)
