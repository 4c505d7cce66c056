"""How an answer is judged: one file a family of metrics."""
