"""lime: its explainer of texts, with words told apart by spaces and hidden by the mask token, in batches of 64."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from lime.lime_text import LimeTextExplainer
from serving import Request, load, serve

BATCH_SIZE = 64


def main() -> None:
    """Serve with the model of the folder that is named."""
    model, tokenizer = load(sys.argv[1])

    def probabilities(texts: list[str]) -> Any:
        found = []
        with torch.inference_mode():
            for first in range(0, len(texts), BATCH_SIZE):
                batch = tokenizer(texts[first : first + BATCH_SIZE], return_tensors="pt", padding=True, truncation=True)
                found.append(model(**batch).logits.softmax(-1).numpy())
        return np.concatenate(found)

    explainer = LimeTextExplainer(split_expression=r"\s+", bow=False, mask_string=tokenizer.mask_token, random_state=0)

    def explain(request: Request) -> Any:
        found = []
        for text, target in zip(request["texts"], request["targets"], strict=True):
            words = len(text.split())
            explained = explainer.explain_instance(
                text, probabilities, labels=[target], num_features=words, num_samples=request["samples"]
            )
            found.append([weight for _, weight in sorted(explained.local_exp[target])])
        return found

    serve(model, {"explain": explain})


if __name__ == "__main__":
    main()
