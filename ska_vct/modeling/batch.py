"""Collates clips of any length into one block of frames (ska_vct/structures/clip.py).

Shape legend: N frames of all clips together, M of them with images of their own, H x W the padded size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ska_vct.structures import IGNORE_LABEL, ClipError, validate_clip
from ska_vct.structures.clip import TRUE_CONDITION


@dataclass(frozen=True)
class FrameBatch:
    """Frames of several clips, one after another.

    Attributes:
        images: float32 (M, 3, H, W), normalised; padding is 0.
        log_mel: float32 (N, 1, 96, 64).
        flow: float32 (N, S, 2, h, w) or None.
        pre_masks: float32 (M, 3, H, W), normalised, or None.
        labels: int64 (N, H, W) on the host, or None outside training.
        lengths: frames of each clip.
        image_sizes: (height, width) of each clip inside the padding.
        image_rows: int64 (N,), which of the M images a frame shows; None where each has its own, M = N.
        audio_second: float32 (N, 1, 100, 64), NaN in unknown hops, or None.
        negative: bool (N,), frames whose audio nothing in view makes; None outside training.
        noise_seeds: seeds of the clips' noise; None where a clip has none.
    """

    images: Tensor
    log_mel: Tensor
    flow: Tensor | None
    pre_masks: Tensor | None
    labels: Tensor | None
    lengths: list[int]
    image_sizes: list[tuple[int, int]]
    image_rows: Tensor | None = None
    audio_second: Tensor | None = None
    negative: Tensor | None = None
    noise_seeds: list[int] | None = None

    @property
    def padded_size(self) -> tuple[int, int]:
        """(H, W) that the network sees."""
        return tuple(self.images.shape[-2:])

    def split_maps(self, maps: Tensor) -> list[Tensor]:
        """Maps (N, ..., h, w) over the padded images, clip by clip and without the padding."""
        parts = []
        for part, size in zip(maps.split(self.lengths), self.image_sizes, strict=True):
            height, width = (
                -(-side * cells // padded)
                for side, cells, padded in zip(size, part.shape[-2:], self.padded_size, strict=True)
            )
            parts.append(part[..., :height, :width])
        return parts

    @property
    def noise(self) -> list[tuple[int, int]] | None:
        """Seed and number of frames of each clip; None where a clip has no seed."""
        return None if self.noise_seeds is None else list(zip(self.noise_seeds, self.lengths, strict=True))


def collate_clips(
    clips: Sequence[Mapping],
    *,
    pixel_mean: Tensor,
    pixel_std: Tensor,
    divisibility: int,
    annotated_only: bool,
    with_flow: bool,
    with_pre_masks: bool,
    with_audio_second: bool = False,
    share_images: bool = False,
) -> FrameBatch:
    """Put the frames to be processed of all clips into one block on the device of ``pixel_mean``.

    Frames are chosen on the host, so that only those are transferred.

    Args:
        clips: see ``ska_vct.structures.clip``.
        pixel_mean, pixel_std: (3, 1, 1).
        divisibility: H and W become multiples of this.
        annotated_only: take frames that carry ground truth and return ``labels``; else every frame that exists.
        with_flow, with_pre_masks, with_audio_second: whether these are wanted.
        share_images: put the images of clips that hold the very same tensors (one clip under several
            conditions) into the block once.

    Raises:
        ClipError: where a clip lacks a field, or no frame remains.
    """
    needs = [
        name
        for name, on in (("flow", with_flow), ("pre_masks", with_pre_masks), ("audio_second", with_audio_second))
        if on
    ]
    needs += ["masks"] if annotated_only else []
    chosen = []
    for clip in clips:
        validate_clip(clip, needs=tuple(needs))
        keep = clip["frame_valid"] & clip["mask_valid"] if annotated_only else clip["frame_valid"]
        chosen.append(keep.nonzero()[:, 0])
    if not sum(len(index) for index in chosen):
        names = ", ".join(str(clip.get("clip_id")) for clip in clips)
        kind = "annotated frame" if annotated_only else "frame"
        raise ClipError(f"No clip of the batch has an {kind}: {names}.")

    device = pixel_mean.device
    sizes = [tuple(clip["images"].shape[-2:]) for clip in clips]
    padded = tuple(-(-max(side) // divisibility) * divisibility for side in zip(*sizes, strict=True))

    def gather(field: str, pad: float | None = None) -> Tensor:
        parts = [clip[field][index] for clip, index in zip(clips, chosen, strict=True)]
        if pad is not None:
            parts = [_pad(part, padded, pad) for part in parts]
        return torch.cat(parts)

    # For each clip the clip whose images it shows, usually itself.
    shown = _first_alike(clips) if share_images else list(range(len(clips)))

    def normalised(field: str) -> Tensor:
        # Normalised before padding, so that padding is 0 as in the published networks.
        parts = [
            _pad((clip[field][index].to(device, non_blocking=True).float() - pixel_mean) / pixel_std, padded, 0.0)
            for clip, index in ((clips[number], chosen[number]) for number in sorted(set(shown)))
        ]
        return torch.cat(parts)

    labels = None
    if annotated_only:
        for clip, size in zip(clips, sizes, strict=True):
            if tuple(clip["masks"].shape[-2:]) != size:
                raise ClipError(
                    f"Clip '{clip.get('clip_id')}': training masks are {tuple(clip['masks'].shape[-2:])} but the "
                    f"image is {size}; both must have the same size."
                )
        labels = gather("masks", IGNORE_LABEL)
    return FrameBatch(
        images=normalised("images"),
        log_mel=gather("log_mel").to(device, non_blocking=True),
        audio_second=gather("audio_second").to(device, non_blocking=True) if with_audio_second else None,
        flow=gather("flow").to(device, non_blocking=True) if with_flow else None,
        pre_masks=normalised("pre_masks") if with_pre_masks else None,
        labels=labels,
        negative=_negative(clips, chosen).to(device) if annotated_only else None,
        noise_seeds=_noise_seeds(clips),
        lengths=[len(index) for index in chosen],
        image_sizes=sizes,
        image_rows=None if len(set(shown)) == len(clips) else _image_rows(shown, chosen).to(device),
    )


def _noise_seeds(clips: Sequence[Mapping]) -> list[int] | None:
    seeds = [clip.get("noise_seed") for clip in clips]
    return None if None in seeds else seeds


def _negative(clips: Sequence[Mapping], chosen: Sequence[Tensor]) -> Tensor:
    replaced = torch.tensor([clip.get("condition", TRUE_CONDITION) != TRUE_CONDITION for clip in clips])
    return replaced.repeat_interleave(torch.tensor([len(index) for index in chosen]))


def _first_alike(clips: Sequence[Mapping]) -> list[int]:
    """For each clip the first one of the batch that holds the same image tensors."""
    first: dict[tuple, int] = {}
    fields = ("images", "pre_masks", "frame_valid")
    return [
        first.setdefault(tuple(id(clip.get(field)) for field in fields), number)
        for number, clip in enumerate(clips)
    ]


def _image_rows(shown: Sequence[int], chosen: Sequence[Tensor]) -> Tensor:
    starts, end = {}, 0
    for number in sorted(set(shown)):
        starts[number] = end
        end += len(chosen[number])
    return torch.cat([starts[number] + torch.arange(len(chosen[number])) for number in shown])


def _pad(x: Tensor, size: tuple[int, int], value: float) -> Tensor:
    bottom, right = size[0] - x.shape[-2], size[1] - x.shape[-1]
    return F.pad(x, (0, right, 0, bottom), value=value) if bottom or right else x
