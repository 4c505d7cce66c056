"""The run: engine, perturbations, store, tracking and the command that ties them together."""
