"""From files and frames to batches: read, columns, split, tokenizer, flat arrays on disk, length buckets, loader.

Import from the modules. No torch module lives here; torch is needed for the tensors of a `Batch` only.
"""
