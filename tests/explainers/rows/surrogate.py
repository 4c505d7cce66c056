"""Surrogates and fair shares under the laws, one row each."""

from tests.explainers.row import Row

_SAMPLES = (({"samples": 0}, "samples must be at least 2, not 0"), ({"samples": -3}, "samples must be at least 2"))
_INTERACTIONS = ({"interactions": "some"}, "interactions must be true or false, not 'some'")

ROWS = (
    Row("lime", random=True, quick={"samples": 50}, bad=(*_SAMPLES, _INTERACTIONS)),
    Row("kernel_shap", random=True, quick={"samples": 50}, bad=(*_SAMPLES, _INTERACTIONS)),
    Row("trans_shap", random=True, quick={"samples": 50}, bad=(*_SAMPLES, _INTERACTIONS)),
    Row("banzhaf", random=True, quick={"samples": 50}, bad=(*_SAMPLES, _INTERACTIONS)),
    Row(
        "permutation_shap",
        random=True,
        quick={"permutations": 2},
        bad=(({"permutations": 0}, "permutations must be at least 1, not 0"), _INTERACTIONS),
    ),
    Row("partition_shap", quick={"samples": 50}, bad=_SAMPLES),
    Row(
        "exact_shapley",
        longest=12,
        bad=(
            ({"exact_up_to": 0}, "exact_up_to must be from 1 to 16, not 0"),
            ({"exact_up_to": 17}, "exact_up_to must be from 1 to 16, not 17"),
        ),
    ),
    Row(
        "tree_surrogate",
        random=True,
        quick={"samples": 50},
        bad=(*_SAMPLES, ({"depth": 0}, "depth must be at least 1, not 0")),
    ),
    Row(
        "anchors",
        signed=False,
        random=True,
        quick={"samples": 100},
        bad=(
            ({"samples": 0}, "samples must be at least 1, not 0"),
            ({"beam": 0}, "beam must be at least 1, not 0"),
            ({"batch": 0}, "batch must be at least 1, not 0"),
            ({"precision": 1.5}, "precision must lie between 0 and 1, not 1.5"),
            ({"delta": 0}, "delta must lie between 0 and 1, not 0"),
            ({"epsilon": -0.1}, "epsilon must lie between 0 and 1, not -0.1"),
        ),
    ),
)
