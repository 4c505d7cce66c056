"""Attention methods under the laws, one row each."""

from tests.explainers.row import Row

ROWS = (
    Row(
        "attention",
        signed=False,
        bad=(
            ({"layer": "last"}, "layer must be a whole number or 'all', not 'last'"),
            ({"head": 0.5}, "head must be a whole number or 'mean', not 0.5"),
        ),
    ),
)
