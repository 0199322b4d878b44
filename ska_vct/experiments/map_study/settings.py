"""How the motion maps of a study are trained."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StudySettings:
    """How the map is trained.

    Attributes:
        steps: of AdamW.
        batch: frames per step.
        lr: at its peak; it falls to zero along a cosine.
        train_clips: number of clips from the start; 0 for all.
    """

    steps: int = 300
    batch: int = 32
    lr: float = 2e-3
    train_clips: int = 0
