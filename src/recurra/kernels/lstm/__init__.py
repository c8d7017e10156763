"""The LSTM recurrence: the same equations side by side, one backend a file, and the operator that dispatches."""
