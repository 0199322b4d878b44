"""Studies built on top of training and evaluation; nothing here is needed to train or predict."""
