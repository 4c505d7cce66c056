"""Methods of the last years under the laws, one row each."""

from tests.explainers.row import Row

ROWS = (
    Row(
        "gim",
        bad=(
            ({"temperature": 0}, "temperature must be above 0, not 0"),
            ({"baseline": "none"}, "unknown baseline 'none'"),
        ),
    ),
)
