"""A trained model that answers questions about texts: tokens and windows, the network, and what it says."""
