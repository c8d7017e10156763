"""What a language model is measured beside: n-grams with interpolated Kneser-Ney smoothing, and single tokens."""
