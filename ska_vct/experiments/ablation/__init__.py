"""Trains, scores and tabulates the rows of an ablation list over several seeds."""
