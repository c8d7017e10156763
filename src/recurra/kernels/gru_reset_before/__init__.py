"""The GRU recurrence with the reset gate before the recurrent product: the equations in plain PyTorch, and the operator that dispatches."""
