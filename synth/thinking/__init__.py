"""Text in, text out: what the embedded teacher writes from what it saw."""
