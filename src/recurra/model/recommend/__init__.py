"""Recommendation of the next item: the network, the trained model, a session in service."""
