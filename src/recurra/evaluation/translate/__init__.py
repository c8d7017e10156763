"""What stands beside a model of text to text: its baselines."""
