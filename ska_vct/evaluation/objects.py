"""Measures how much of the sounding and of the silent objects is segmented (docs/scores.md); needs known objects.

Whether an object is sounding or silent is decided per frame. An object that sounds elsewhere in its clip but rests
in this second is silent and still here and does not belong to the ground truth's foreground.

Shape legend
    T     scored frames
    H, W  evaluation size
    G     groups of objects: sounding, silent and still, silent and moving, in this order
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ska_vct.structures.clip import SILENT_MOVING, SILENT_STILL, SOUNDING
from ska_vct.utils.errors import InputError

GROUPS = ("sounding", "silent_still", "silent_moving")
_CODES = [SOUNDING, SILENT_STILL, SILENT_MOVING]
_NUM_CODES = len(_CODES) + 1  # and no object


def count_objects(segmented: Tensor, groups: Tensor) -> Tensor:
    """Count the pixels and the segmented pixels of each group of objects.

    Args:
        segmented: bool (T, H, W).
        groups: uint8 (T, H, W), a clip's ``object_groups``.

    Returns:
        int64 (T, G, 2): pixels and segmented pixels.

    Raises:
        ValueError: shapes differ, or ``groups`` contains an unknown value.
    """
    if segmented.shape != groups.shape or segmented.ndim != 3:
        raise InputError(
            f"The segmented pixels have shape {tuple(segmented.shape)}, the object groups {tuple(groups.shape)}; "
            "both must be (frames, height, width)."
        )
    groups = groups.to(segmented.device)
    if len(groups) and int(groups.max()) >= _NUM_CODES:
        raise InputError(
            f"Object groups contain the value {int(groups.max())}; they range from 0 to {_NUM_CODES - 1}."
        )
    counts = _sums(_frame_and_code(groups) * 2 + segmented.flatten(), len(groups), 2)
    return torch.stack([counts.sum(-1), counts[..., 1]], dim=-1)


def map_means(motion_map: Tensor, groups: Tensor) -> Tensor:
    """Mean of the motion map on each group of objects.

    Args:
        motion_map: float (T, g, g), resized bilinearly to the groups.
        groups: uint8 (T, H, W), a clip's ``object_groups``.

    Returns:
        float64 (T, G); NaN where a group is not in view.
    """
    motion_map = interpolate(motion_map[:, None].float(), groups.shape[-2:], mode="bilinear", align_corners=False)
    index = _frame_and_code(groups.to(motion_map.device))
    total = _sums(index, len(groups), weights=motion_map.flatten().double())
    return (total / _sums(index, len(groups)))[..., 0]


def _frame_and_code(groups: Tensor) -> Tensor:
    """Each pixel's frame and code as one number, int32 (T * H * W)."""
    frame = torch.arange(len(groups), device=groups.device, dtype=torch.int32)[:, None]
    return (frame * _NUM_CODES + groups.flatten(1)).flatten()


def _sums(index: Tensor, num_frames: int, cells: int = 1, *, weights: Tensor | None = None) -> Tensor:
    """Sums of ``weights``, or counts, by index: (T, G, cells)."""
    sums = torch.bincount(index, weights, minlength=num_frames * _NUM_CODES * cells)
    return sums.view(num_frames, _NUM_CODES, cells)[:, _CODES]


def object_scores(
    clips: Sequence[Tensor], maps: Sequence[Tensor | None] | None = None, frames: Sequence[Tensor] | None = None
) -> dict[str, float | int | None | dict]:
    """Scores of several clips from their counts, summed over all of them.

    Args:
        clips: one result of ``count_objects`` per clip.
        maps: one result of ``map_means`` per clip; None without motion maps.
        frames: int64 (T,) per clip, the second of each row; None for no scores by frame.

    Returns:
        fractions in [0, 1], None if there is nothing to measure:
            ``silent_still``, ``silent_moving``, ``silent``: pixels of silent objects that are segmented;
            ``missed``: pixels of sounding objects that are not segmented;
            ``right``: among frames with both a sounding and a silent object, those where more than half of the
            sounding and less than half of the silent pixels are segmented; ``wrong``: the reverse;
            ``right_minus_wrong``;
            ``map_first``: among the same frames, those in which the map's mean is higher on the sounding than on
            any silent objects; ``right_given_map_first``: ``right`` among those frames;
        ``silent_frames``, the number of frames to which ``right`` and ``wrong`` refer; and with ``frames``
        ``by_frame``: second -> the same scores of these frames alone.
    """
    means = _joined(maps)
    counts = torch.cat(list(clips)) if clips else torch.zeros(0, len(GROUPS), 2, dtype=torch.int64)
    scores: dict[str, float | int | None | dict] = {**_scores(counts, means)}
    if frames is not None and clips:
        index = torch.cat(list(frames))
        scores["by_frame"] = {
            str(second): _scores(counts[index == second], None if means is None else means[index == second])
            for second in sorted(set(index.tolist()))
        }
    return scores


def _joined(maps: Sequence[Tensor | None] | None) -> Tensor | None:
    """All rows; None if a clip has none."""
    known = [values for values in maps or () if values is not None]
    return torch.cat(known) if known and len(known) == len(maps or ()) else None


def _scores(counts: Tensor, means: Tensor | None) -> dict[str, float | int | None]:
    (sounding, heard), (still, still_found), (moving, moving_found) = counts.sum(0).tolist()
    judged = judge_frames(counts)
    right, wrong, both = (int(frames.sum()) for frames in judged)
    first = None if means is None else map_is_first(means) & judged[2]
    scores = {
        "silent_still": _share(still_found, still),
        "silent_moving": _share(moving_found, moving),
        "silent": _share(still_found + moving_found, still + moving),
        "missed": _share(sounding - heard, sounding),
        "right": _share(right, both),
        "wrong": _share(wrong, both),
        "right_minus_wrong": _share(right - wrong, both),
        "map_first": None if first is None else _share(int(first.sum()), both),
        "right_given_map_first": None
        if first is None
        else _share(int((first & judged[0]).sum()), int(first.sum())),
    }
    return {**scores, "silent_frames": both}


def judge_frames(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Right frames, wrong frames, and frames with both a sounding and a silent object; bool (T,) each."""
    sounding, silent = counts[:, 0], counts[:, 1:].sum(1)
    both = (sounding[:, 0] > 0) & (silent[:, 0] > 0)
    # In integers, exactly half counts as neither more nor less.
    sounding_found, silent_found = (2 * group[:, 1] - group[:, 0] for group in (sounding, silent))
    right = both & (sounding_found > 0) & (silent_found < 0)
    wrong = both & (sounding_found < 0) & (silent_found > 0)
    return right, wrong, both


def map_is_first(means: Tensor) -> Tensor:
    """Whether the map is higher on the sounding than on any silent objects in view; bool (T,) of (T, G) means."""
    silent = means[:, 1:].nan_to_num(nan=-torch.inf).amax(1)
    return means[:, 0] > silent


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
