"""Training on windows of series: prepare, fit, results."""
