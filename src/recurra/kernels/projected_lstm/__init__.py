"""The recurrence of the LSTM with a projected hidden state: the equations in plain PyTorch, and the operator that dispatches."""
