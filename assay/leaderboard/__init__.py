"""From results to a page: collect, compare, render."""
