"""The ladder: the paper's claims, tried on students small enough to train from scratch in minutes."""
