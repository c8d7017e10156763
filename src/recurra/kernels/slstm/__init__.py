"""The sLSTM recurrence: the equations in plain PyTorch, and the operator that dispatches."""
