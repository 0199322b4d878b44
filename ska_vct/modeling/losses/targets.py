"""Ground truth as read by the matcher and the losses: one mask per class and frame, padded to a tensor.

Shape legend: N frames, M maximum number of classes per frame, H x W pixels, P predictions, T matched pairs, X
points.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .mask_losses import sample_points
from .matcher import Assignment


@dataclass(frozen=True)
class Targets:
    """Ground-truth masks.

    Attributes:
        classes: int64 (N, M); 0 for padding.
        masks: bool (N, M, H, W).
        counts: number of masks of each frame without padding; a list, since the matcher runs on the host.
        labels: uint8 (N, H, W), label maps from which the masks were made, on the same device; None if made
            otherwise.
    """

    classes: Tensor
    masks: Tensor
    counts: list[int]
    labels: Tensor | None = None

    @classmethod
    def from_label_maps(cls, labels: Tensor, *, ignore_label: int, device: torch.device) -> "Targets":
        """One mask per class present in a frame; the ignore label is not a class.

        Args:
            labels: int64 (N, H, W) with values 0..255, on the host, so that counting needs no transfer.
            ignore_label: label of pixels without ground truth.
            device: device of the masks.
        """
        present = torch.zeros(len(labels), 256, dtype=torch.bool)
        present.scatter_(1, labels.flatten(1), True)
        present[:, ignore_label] = False
        counts = present.sum(1)
        most = max(int(counts.max()), 1)
        # A stable sort moves the present classes to the front, in ascending order.
        classes = present.logical_not().sort(dim=1, stable=True).indices[:, :most]
        real = torch.arange(most) < counts[:, None]
        # The only transfer of label maps, as uint8: an eighth of their size on the host.
        on_device = labels.to(torch.uint8).to(device, non_blocking=True)
        wanted = torch.where(real, classes, -1).to(device, non_blocking=True)
        return cls(
            classes=wanted.clamp(min=0),
            masks=on_device[:, None] == wanted[:, :, None, None],
            counts=counts.tolist(),
            labels=on_device,
        )

    def on_grid(self, size: tuple[int, int]) -> Tensor:
        """Fraction of each cell covered by a mask: float32 (N, M, h, w)."""
        return F.adaptive_avg_pool2d(self.masks.float(), size)

    @torch.no_grad()
    def at_points(self, pairs: Assignment, coords: Tensor, num_predictions: int) -> Tensor:
        """Sample each matched target at its own points.

        Args:
            pairs: T matched pairs.
            coords: (T, X, 2), x and y in 0..1.
            num_predictions: P.

        Returns:
            float32 (T, X).
        """
        # A prediction matches a target at most once, so P sets of points are sampled from one copy of its mask.
        first, frame, index = (part.to(coords.device, non_blocking=True) for part in index_targets(self.counts))
        row = first[pairs.frame] + pairs.target
        points = coords.new_zeros(len(frame), num_predictions, *coords.shape[1:])
        points[row, pairs.prediction] = coords
        values = sample_points(self.masks[frame, index].float()[:, None], points.flatten(1, 2))
        return values.view(points.shape[:3])[row, pairs.prediction]


def index_targets(counts: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Index of each target when those of all frames are concatenated, computed on the host.

    Args:
        counts: targets of each frame.

    Returns:
        int64: for each frame the index of its first target; for each target its frame, and its index in that
            frame.
    """
    number = torch.tensor(counts)
    frame = torch.arange(len(number)).repeat_interleave(number)
    first = number.cumsum(0) - number
    return first, frame, torch.arange(len(frame)) - first[frame]
