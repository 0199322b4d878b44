"""Key names and tensor layouts of published checkpoints."""

# Names that checkpoints are written in: ours, or those of the published VCT.
TARGETS = ("ska_vct", "vct")
