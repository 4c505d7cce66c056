"""Attention methods under the laws, one row each."""

from tests.explainers.row import Row

ROWS = (
    Row(
        "attention",
        signed=False,
        bad=(
            ({"layer": "last"}, "layer must be a whole number or 'all', not 'last'"),
            ({"head": 0.5}, "head must be a whole number or 'mean' or 'max', not 0.5"),
            ({"row": "first"}, "unknown row 'first'"),
        ),
    ),
    Row("attention_rollout", signed=False),
    Row("attention_flow", signed=False),
    Row("grad_sam", signed=False),
    Row("generic_attention", signed=False),
    Row(
        "attattr",
        quick={"steps": 3},
        unsupported=("linear",),
        bad=(({"steps": 0}, "steps must be at least 1, not 0"), ({"row": "cls"}, "unknown row 'cls'")),
    ),
    Row("attcat", unsupported=("linear",)),
    Row(
        "attention_norm",
        signed=False,
        bad=(({"layer": "mean"}, "layer must be a whole number or 'all' or 'rollout', not 'mean'"),),
    ),
)
