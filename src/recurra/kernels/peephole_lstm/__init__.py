"""The recurrence of the LSTM with peepholes: the equations in plain PyTorch, and the operator that dispatches."""
