"""Joins data, model, evaluation and checkpoints into programs; the only package that imports all of them."""
