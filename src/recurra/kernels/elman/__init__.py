"""The recurrence of Elman's network: the same equations side by side, one backend a file, and the operator that dispatches."""
