"""Time, memory and arithmetic cost of models and their parts."""

PRECISIONS = ("off", "bf16", "fp16")
