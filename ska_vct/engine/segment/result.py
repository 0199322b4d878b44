"""What is found in a video.

Shape legend: T sampled frames, H x W the video's size, h x w the network's input, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Masks and all that goes with them for some or all sampled frames of a video.

    Frame k stands for the time from k / fps to (k + 1) / fps seconds and lies 15/16 into it.

    Attributes:
        name: of the video.
        fps: frames per second that were segmented.
        first: index of the first frame.
        times: float64 (T,), when the frames are shown, seconds from the video's first frame.
        class_names: K names, background first.
        previews: uint8 (T, a, b, 3), the frames, RGB, in the video's proportions, their short side at most 224.
        labels: uint8 (T, H, W), the class of each pixel at the video's size, 0 for background.
        scores: float16 (T, h, w), of two classes the probability of the object, else the score of the best class
            but background, in [0, 1].
        class_scores: float32 (T, K), the highest score of each class in the frame, in [0, 1].
        class_areas: float32 (T, K), the share of the frame that each class's mask covers.
        audio_level: float32 (T,), root mean square of the frame's second in dB of full scale, -100 for silence.
        motion_map: float32 (T, g, g) in [0, 1], where motion agrees with the audio; None without SKA.
        boundary: float32 (T, h', w') in [0, 1], probability of a contour; None without BRM.
        clip: the model's input of these frames (``ska_vct.structures.clip``), without ground truth; None in a
            result that joins several clips.
        spent: seconds by stage: processor time of decode, audio and flow, elapsed time of model and masks.
        remarks: what is unusual about the video, one sentence each.
    """

    name: str
    fps: float
    first: int
    times: np.ndarray
    class_names: tuple[str, ...]
    previews: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    class_scores: np.ndarray
    class_areas: np.ndarray
    audio_level: np.ndarray
    motion_map: np.ndarray | None
    boundary: np.ndarray | None
    clip: dict[str, Any] | None = None
    spent: dict[str, float]
    remarks: tuple[str, ...] = ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video."""
        return self.labels.shape[1:]

    @property
    def seconds(self) -> np.ndarray:
        """Begin and end of what each frame stands for, float64 (T, 2)."""
        rows = np.arange(self.first, self.first + len(self.times))
        return np.stack([rows, rows + 1], 1) / self.fps


# Arrays with a row per frame.
_ROWS = (
    "times", "previews", "labels", "scores", "class_scores", "class_areas", "audio_level", "motion_map",
    "boundary",
)  # fmt: skip


def join(parts: Sequence[Segmentation]) -> Segmentation:
    """One result of the parts of a video, in their order; at least one."""
    joined: dict[str, Any] = {}
    for name in _ROWS:
        arrays = [getattr(part, name) for part in parts]
        joined[name] = None if arrays[0] is None else np.concatenate(arrays)
    spent = {stage: sum(part.spent[stage] for part in parts) for stage in parts[0].spent}
    clip = parts[0].clip if len(parts) == 1 else None
    return replace(parts[0], **joined, spent=spent, clip=clip, remarks=parts[-1].remarks)


def class_probabilities(sem_seg: torch.Tensor) -> torch.Tensor:
    """Class scores (T, K, h, w) as values in [0, 1].

    Of two classes they are the softmax that is evaluated, so that the object's exceeds 0.5 where it is the argmax;
    of more the sums over queries of class probability times mask, cut at 1.
    """
    return sem_seg.softmax(1) if sem_seg.shape[1] == 2 else sem_seg.clamp(0, 1)
