"""Assay tests explanations of text classifiers: do they name what the model really used."""
