"""Language models: the network of a stream of tokens, measuring it, and text that comes out."""
