"""A model of text to text: its network, how outputs are searched for, and what it does with data."""
