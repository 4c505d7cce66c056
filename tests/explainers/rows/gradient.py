"""Gradient methods under the laws, one row each."""

from tests.explainers.row import Row

ROWS = (
    Row("gradient", signed=False),
    Row("gradient_x_input"),
    Row(
        "integrated_gradients",
        quick={"steps": 4},
        bad=(
            ({"steps": 0}, "steps must be at least 1, not 0"),
            ({"steps": 2.5}, "steps must be a whole number at least 1, not 2.5"),
            ({"baseline": "zeros"}, "Did you mean 'zero'"),
        ),
    ),
)
