"""Key names and tensor layouts of published checkpoints."""
