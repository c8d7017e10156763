"""The layer-normalized LSTM recurrence: the equations in plain PyTorch, and the operator that dispatches."""
