"""Training a language model: text and its parts, windows of streams, results."""
