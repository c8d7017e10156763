"""Forecasting: what is put out, the networks, the trained model, its stream. Import from the modules."""
