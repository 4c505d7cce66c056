"""`assay plan`: what a sweep will take, counted and timed on a few of its examples before it starts."""
