"""interpreto 0.5.2: its insertion and deletion, and some of its methods, all of the tokenizer's tokens."""

from __future__ import annotations

import sys
from typing import Any

import torch
from interpreto import Granularity
from interpreto.attributions import IntegratedGradients, Lime, Occlusion, Saliency, SmoothGrad
from interpreto.attributions.base import AttributionOutput, ModelTask
from interpreto.attributions.metrics import Deletion, Insertion
from serving import Request, load, serve

METHODS = {
    "saliency": Saliency,
    "integrated_gradients": IntegratedGradients,
    "smoothgrad": SmoothGrad,
    "occlusion": Occlusion,
    "lime": Lime,
}


def main() -> None:
    """Serve with the model of the folder that is named."""
    model, tokenizer = load(sys.argv[1])

    def explain(request: Request) -> Any:
        settings = {"batch_size": request["batch_size"], "granularity": Granularity.TOKEN, **request["settings"]}
        method = METHODS[request["method"]](model, tokenizer, **settings)
        targets = torch.tensor(request["targets"])[:, None]
        return [found.attributions[0].tolist() for found in method.explain(request["texts"], targets)]

    def evaluate(request: Request) -> Any:
        metrics = {
            "deletion_auc": Deletion(model, tokenizer, batch_size=request["batch_size"]),
            "insertion_auc": Insertion(model, tokenizer, batch_size=request["batch_size"]),
        }
        found: dict[str, list[dict[str, float]]] = {}
        for name, vectors in request["scores"].items():
            for text, target, scores in zip(request["texts"], request["targets"], vectors, strict=True):
                given = AttributionOutput(
                    attributions=torch.tensor([scores], dtype=torch.float32),
                    elements=["token"] * len(scores),
                    model_inputs_to_explain=tokenizer(text, return_tensors="pt", return_offsets_mapping=True),
                    targets=torch.tensor([target]),
                    model_task=ModelTask.CLASSIFICATION,
                    granularity=Granularity.TOKEN,
                )
                row = {metric: judge.evaluate([given])[0] for metric, judge in metrics.items()}
                found.setdefault(name, []).append(row)
        return found

    serve(model, {"explain": explain, "evaluate": evaluate})


if __name__ == "__main__":
    main()
