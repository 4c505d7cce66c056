"""Assay: explanations, and a protocol's metrics of given ones, as `assay.score` computes them."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from serving import Request, serve

from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.classifier import Classifier
from assay.conversation import Attribution
from assay.example import Example
from assay.perturbation import Mask


def main() -> None:
    """Serve with the model of the folder that is named."""
    model = Classifier.from_pretrained(sys.argv[1], device="cpu")

    def evaluation(request: Request, metrics: Any, perturbations: Any) -> Evaluation:
        # The target is what the request says; the precision is that of everything else.
        model.dtype = request.get("dtype", "float32")
        examples = [Example(str(index), (text,)) for index, text in enumerate(request["texts"])]
        settings = Settings(feature=request["feature"])
        return Evaluation(model, examples, metrics, perturbations, settings, targets=request["targets"])

    def predict(request: Request) -> Any:
        found = evaluation({**request, "targets": [0] * len(request["texts"])}, {}, {"mask": Mask()})
        return {"targets": found.predicted, "features": [encoding.n for encoding in found.encodings]}

    def explain(request: Request) -> Any:
        found = evaluation(request, {}, {"mask": Mask()})
        for name, settings in request["explainers"].items():
            kind = name.partition(" ")[0]
            found.add_explainer(name, registry.build("explainer", kind, **settings))
        return {name: [row["scores"] for row in records.attributions] for name, records in found.run().items()}

    def evaluate(request: Request) -> Any:
        content = registry.settings("protocol", request["protocol"])["preset"]
        metrics, perturbations = (
            {key: registry.instantiate(part) for key, part in content[group].items()}
            for group in ("metrics", "perturbations")
        )
        for hiding in perturbations.values():
            hiding.check(model)
        found = evaluation(request, metrics, perturbations)
        for name, vectors in request["scores"].items():
            given = [
                Attribution(encoding.features, np.array(scores), target)
                for encoding, scores, target in zip(found.encodings, vectors, request["targets"], strict=True)
            ]
            found.add_attributions(name, given)
        judged: dict[str, list[dict[str, float | None]]] = {}
        for name, records in found.run().items():
            rows: dict[str, dict[str, float | None]] = {example.id: {} for example in found.examples}
            for row in records.scores:
                rows[row["example"]][row["metric"]] = None if np.isnan(row["value"]) else row["value"]
            judged[name] = list(rows.values())
        return judged

    serve(model.model, {"predict": predict, "explain": explain, "evaluate": evaluate})


if __name__ == "__main__":
    main()
