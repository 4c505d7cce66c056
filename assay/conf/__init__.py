"""The Hydra groups: each YAML file names a class and its settings."""
