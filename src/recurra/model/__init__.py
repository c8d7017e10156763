"""Features, network and head as one thing that predicts, evaluates, saves and loads. Import from the modules."""
