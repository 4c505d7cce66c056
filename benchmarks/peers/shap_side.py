"""shap: its partition explainer on a pipeline of transformers, as its documentation shows it."""

from __future__ import annotations

import sys
from typing import Any

import shap
from serving import Request, load, serve
from transformers import TextClassificationPipeline


def main() -> None:
    """Serve with the model of the folder that is named."""
    model, tokenizer = load(sys.argv[1])
    pipeline = TextClassificationPipeline(model=model, tokenizer=tokenizer, top_k=None)

    def explain(request: Request) -> Any:
        found = shap.Explainer(pipeline)(request["texts"], max_evals=request["samples"], silent=True)
        return [values[:, target].tolist() for values, target in zip(found.values, request["targets"], strict=True)]

    serve(model, {"explain": explain})


if __name__ == "__main__":
    main()
