"""What `python -m benchmarks recurrences` measures: one part a file, on the same cases, contenders, gate and clock."""
