"""Training on the rows of a table: prepare, batches from length buckets, results."""
