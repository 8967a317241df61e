"""What `avar eval` does: rows of a benchmark or a dataset, a model's answers to them, and what they score."""
