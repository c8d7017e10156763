"""The linear scan: the same equation side by side, one backend a file, and the operator that dispatches."""
