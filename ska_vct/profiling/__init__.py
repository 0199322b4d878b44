"""Time, memory and arithmetic cost of models and their parts."""
