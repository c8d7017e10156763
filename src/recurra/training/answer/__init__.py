"""Training of answers: prepare, batches of windows from length buckets, results."""
