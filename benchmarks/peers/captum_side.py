"""captum: perturbation methods over the tokenizer's tokens, hidden by the mask token, and a gradient."""

from __future__ import annotations

import sys
from typing import Any

import torch
from captum.attr import FeatureAblation, KernelShap, Lime, Saliency
from serving import Request, load, serve

METHODS: dict[str, type[Any]] = {"ablation": FeatureAblation, "lime": Lime, "kernel_shap": KernelShap}


def main() -> None:
    """Serve with the model of the folder that is named."""
    model, tokenizer = load(sys.argv[1])

    def saliency(request: Request) -> Any:
        found = []
        for text, target in zip(request["texts"], request["targets"], strict=True):
            inputs = tokenizer(text, return_tensors="pt")
            ids = inputs.pop("input_ids")

            def forward(embeddings: torch.Tensor, inputs: Any = inputs) -> torch.Tensor:
                return model(inputs_embeds=embeddings, **inputs).logits.softmax(-1)

            embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
            gradient = Saliency(forward).attribute(embeddings, target=target)
            found.append(gradient.norm(dim=-1)[0, 1:-1].tolist())
        return found

    def explain(request: Request) -> Any:
        method, found = METHODS[request["method"]], []
        for text, target in zip(request["texts"], request["targets"], strict=True):
            (ids,) = tokenizer(text, return_tensors="pt")["input_ids"]

            def forward(keep: torch.Tensor, ids: torch.Tensor = ids, target: int = target) -> torch.Tensor:
                rows = ids.repeat(len(keep), 1)
                rows[:, 1:-1] = torch.where(keep > 0.5, rows[:, 1:-1], tokenizer.mask_token_id)
                with torch.inference_mode():
                    return model(input_ids=rows).logits.softmax(-1)[:, target]

            keep = torch.ones(1, len(ids) - 2)
            scores = method(forward).attribute(keep, baselines=torch.zeros_like(keep), **request["settings"])
            found.append(scores[0].tolist())
        return found

    serve(model, {"saliency": saliency, "explain": explain})


if __name__ == "__main__":
    main()
