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
    Row(
        "noiser",
        random=True,
        quick={"samples": 2, "bisections": 2},
        bad=(
            ({"samples": 0}, "samples must be at least 1, not 0"),
            ({"bisections": 0}, "bisections must be at least 1, not 0"),
            ({"most_noise": 0}, "most_noise must be above 0, not 0"),
        ),
    ),
    Row(
        "reagent",
        signed=False,
        random=True,
        quick={"probes": 2, "most_steps": 5},
        bad=(
            ({"probes": 0}, "probes must be at least 1, not 0"),
            ({"most_steps": 0}, "most_steps must be at least 1, not 0"),
            ({"replaced": 0}, "replaced must be between 0 and 1, not 0"),
            ({"kept": 1}, "kept must be between 0 and 1, not 1"),
        ),
    ),
)
