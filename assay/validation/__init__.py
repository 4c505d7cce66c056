"""Validation of a method: does it keep the contract of an explainer, and is it better than what there is."""
