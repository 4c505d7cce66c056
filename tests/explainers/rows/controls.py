"""Controls under the laws, one row each."""

from tests.explainers.row import Row

ROWS = (
    Row("random", signed=False, asks=False, random=True, bad=(({"repeats": 0}, "repeats must be at least 1, not 0"),)),
    Row("first", signed=False, asks=False),
    Row("last", signed=False, asks=False),
    Row("length", signed=False, asks=False),
    Row("idf", signed=False, asks=False, bad=(({"background": 0}, "background must be at least 1, not 0"),)),
    Row(
        "oracle",
        signed=False,
        quick={"exact_up_to": 4},
        longest=12,
        bad=(
            ({"exact_up_to": -1}, "exact_up_to must be from 0 to 16"),
            ({"exact_up_to": 17}, "from 0 to 16, not 17"),
            ({"width": 0}, "width must be at least 1, not 0"),
            ({"candidates": 0}, "candidates must be at least 1, not 0"),
        ),
    ),
)
