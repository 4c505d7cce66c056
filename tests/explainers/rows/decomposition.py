"""Relevance propagation under the laws, one row each."""

from tests.explainers.row import Row


def not_negative(name):
    return (
        ({name: -0.1}, f"{name} must be a number at least 0, not -0.1"),
        ({name: float("nan")}, f"{name} must be a number at least 0, not nan"),
    )


ROWS = (
    Row("lrp_0", bad=(({"subwords": "median"}, "unknown subwords 'median'"),)),
    Row("lrp_epsilon", bad=not_negative("epsilon")),
    Row("lrp_gamma", bad=not_negative("gamma")),
    Row("attn_lrp", bad=not_negative("epsilon")),
    Row("conservative_lrp"),
    Row("deep_taylor"),
    Row("transformer_attribution", signed=False),
    Row("head_relevance", signed=False, bad=not_negative("epsilon")),
)
