"""Vector decompositions under the laws, one row each."""

from tests.explainers.row import Row

ROWS = (
    Row("value_zeroing", signed=False),
    Row("globenc", signed=False),
    Row("alti", signed=False),
    Row("decompx", unsupported=("linear",), bad=(({"bias": "absdot"}, "unknown bias 'absdot'"),)),
)
