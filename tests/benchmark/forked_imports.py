"""What the process that runs are forked from has imported; it never computes, so that it has but one thread."""

from __future__ import annotations

import torch
import transformers.models.bert.modeling_bert
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

from assay import command_line, registry
from assay.benchmark import launch, run, table
from tests.benchmark import cli

torch.set_num_threads(1)
for group in ("explainer", "metric", "perturbation", "task"):
    for name in registry.names(group):
        registry.locate(registry.settings(group, name)["_target_"])

# What Hydra reads of Assay's configuration is kept for the next time.
for metric in ("deletion", "[deletion,input_invariance]"):
    launch.compose(
        "run",
        [f"metric={metric}", "explainer=[leave_one_out,gradient]", "model.path=none", "task=sst2", "tracker=none"],
    )

__all__ = [
    "AutoModelForSequenceClassification",
    "AutoTokenizer",
    "PreTrainedTokenizerFast",
    "cli",
    "command_line",
    "launch",
    "run",
    "table",
    "transformers",
]
