"""The layer-normalized GRU recurrence: the equations in plain PyTorch, and the operator that dispatches."""
