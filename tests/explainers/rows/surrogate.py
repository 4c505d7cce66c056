"""Surrogates under the laws, one row each."""

from tests.explainers.row import Row

ROWS = (
    Row(
        "lime",
        random=True,
        quick={"samples": 50},
        bad=(({"samples": 0}, "samples must be at least 2, not 0"), ({"samples": -3}, "samples must be at least 2")),
    ),
    Row(
        "kernel_shap",
        random=True,
        quick={"samples": 50},
        bad=(({"samples": 0}, "samples must be at least 2, not 0"), ({"samples": -3}, "samples must be at least 2")),
    ),
)
