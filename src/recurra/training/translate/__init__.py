"""A training of text to text."""
