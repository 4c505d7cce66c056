"""Assay: does an explanation of a text classifier name what the model really used?"""
