"""Limits and choices that command lines and settings share with the flow methods."""

# DIS works on patches of 8 x 8 at half resolution and returns nothing useful below this side, pixels.
MIN_SIDE = 24
# What flow is computed from; auto: the raw video where it exists and is whole, else the frames.
SOURCES = ("auto", "video", "frames")
# Where ``--submit`` of datasets/compute_flow.py and ska-vct-train sends jobs.
CLUSTERS = ("slurm", "local")
