"""Run time, memory use and FLOPs of models and their parts."""

PRECISIONS = ("off", "bf16", "fp16")
