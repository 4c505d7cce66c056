"""ferret 0.4.2: its six explanations of a text, and its three metrics of faithfulness."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from ferret import Benchmark
from ferret.explainers.explanation import Explanation
from serving import Request, load, serve


def main() -> None:
    """Serve with the model of the folder that is named."""
    model, tokenizer = load(sys.argv[1])
    bench = Benchmark(model, tokenizer)

    def explain(request: Request) -> Any:
        found: dict[str, list[list[float]]] = {}
        for text, target in zip(request["texts"], request["targets"], strict=True):
            for explanation in bench.explain(text, target=target, show_progress=False):
                found.setdefault(explanation.explainer, []).append(np.asarray(explanation.scores, float).tolist())
        return found

    def evaluate(request: Request) -> Any:
        found: dict[str, list[dict[str, float]]] = {}
        tokens = [["[CLS]", *["token"] * len(scores), "[SEP]"] for scores in next(iter(request["scores"].values()))]
        for index, (text, target) in enumerate(zip(request["texts"], request["targets"], strict=True)):
            explanations = [
                Explanation(text, tokens[index], np.array([0.0, *scores[index], 0.0]), name, target)
                for name, scores in request["scores"].items()
            ]
            for judged in bench.evaluate_explanations(explanations, target=target, show_progress=False):
                row = {one.name: float(one.score) for one in judged.evaluation_scores}
                found.setdefault(judged.explanation.explainer, []).append(row)
        return found

    serve(model, {"explain": explain, "evaluate": evaluate})


if __name__ == "__main__":
    main()
