"""From a table to a trained model: `train.py` is the whole job, `fit.py` the part that Lightning runs. Import from the modules."""
