"""What a model of answers is shown beside, and its answers marked in their contexts."""
