"""Training a recommendation: sessions and their split, session-parallel batches with negatives, results."""
