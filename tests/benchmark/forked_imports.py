"""What the process that runs are forked from has imported; it never computes, so that it has but one thread."""

from __future__ import annotations

import datasets
import networkx
import torch
import transformers.models.bert.modeling_bert
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from assay import altered_models, command_line, registry
from assay.benchmark import launch, run, table
from tests.benchmark import cli
from tests.read_once import read_once, spare_the_collector

torch.set_num_threads(1)
read_once()
for group in ("explainer", "metric", "perturbation", "task"):
    for name in registry.names(group):
        registry.locate(registry.settings(group, name)["_target_"])

# What Hydra reads of Assay's configuration is kept for the next time.
for metric in ("deletion", "[deletion,input_invariance]"):
    launch.compose(
        "run",
        [f"metric={metric}", "explainer=[leave_one_out,gradient]", "model.path=none", "task=sst2", "tracker=none"],
    )

# Else each collection in a child would have its pages copied.
spare_the_collector()

__all__ = [
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "PreTrainedTokenizerFast",
    "altered_models",
    "cli",
    "command_line",
    "datasets",
    "launch",
    "networkx",
    "run",
    "table",
    "transformers",
]
