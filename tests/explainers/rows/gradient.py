"""Gradient methods under the laws, one row each."""

from tests.explainers.row import Row

_SAMPLED = (
    ({"samples": 0}, "samples must be at least [12], not 0"),
    ({"noise": -1}, "noise must be a finite number of at least 0, not -1"),
    ({"noise": "much"}, "noise must be a finite number of at least 0, not 'much'"),
)

ROWS = (
    Row(
        "gradient",
        signed=False,
        bad=(({"norm": "l3"}, "unknown norm 'l3'"), ({"subwords": "last"}, "unknown subwords 'last'")),
    ),
    Row("gradient_x_input"),
    Row("smoothgrad", signed=False, random=True, quick={"samples": 3}, bad=(*_SAMPLED, ({"norm": "max"}, "'max'"))),
    Row("vargrad", signed=False, random=True, quick={"samples": 3, "noise": 0.01}, bad=_SAMPLED),
    Row("squaregrad", signed=False, random=True, quick={"samples": 3}, bad=_SAMPLED),
    Row(
        "integrated_gradients",
        quick={"steps": 4},
        bad=(
            ({"steps": 0}, "steps must be at least 1, not 0"),
            ({"steps": 2.5}, "steps must be a whole number at least 1, not 2.5"),
            ({"baseline": "zeros"}, "Did you mean 'zero'"),
            ({"samples": 0}, "samples must be at least 1, not 0"),
            ({"adaptive_steps": 0}, "adaptive_steps must be a number above 0, not 0"),
            ({"adaptive_steps": True}, "adaptive_steps must be a number above 0, not True"),
            ({"adaptive_steps": "few"}, "adaptive_steps must be a number above 0, not 'few'"),
            ({"most_steps": 4}, "most_steps must be at least 5, not 4"),
            ({"texts": 0}, "texts must be at least 1, not 0"),
        ),
    ),
    Row(
        "expected_gradients",
        random=True,
        quick={"samples": 4},
        bad=(
            ({"samples": 0}, "samples must be at least 1, not 0"),
            ({"texts": 0}, "texts must be at least 1, not 0"),
        ),
    ),
    Row(
        "discretized_ig",
        quick={"steps": 3, "neighbours": 20},
        bad=(
            ({"steps": 0}, "steps must be at least 1, not 0"),
            ({"neighbours": 0}, "neighbours must be at least 1, not 0"),
            ({"factor": 11}, "factor must be from 0 to 10, not 11"),
            ({"strategy": "gready"}, "Did you mean 'greedy'"),
            ({"baseline": "zero"}, "unknown baseline 'zero'"),
        ),
    ),
    Row("deeplift", bad=(({"baseline": "zeros"}, "Did you mean .zero."),)),
    Row("sequential_ig", quick={"steps": 2}, bad=(({"steps": 0}, "steps must be at least 1, not 0"),)),
)
