"""What is segmented of sounding and of silent objects, where every object is known (spec: metrics.md, Robustness).

Whether an object sounds is said frame by frame: one that sounds elsewhere in its clip but rests in this second is
silent and still here, just as it is no foreground of the ground truth.

Shape legend
    T     frames that are scored
    H, W  evaluation size
    G     groups of objects: sounding, silent and still, silent and moving, in this order
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ska_vct.structures.clip import SILENT_MOVING, SILENT_STILL, SOUNDING
from ska_vct.utils.errors import InputError

GROUPS = ("sounding", "silent_still", "silent_moving")
_CODES = [SOUNDING, SILENT_STILL, SILENT_MOVING]


def count_objects(segmented: Tensor, groups: Tensor) -> Tensor:
    """Pixels of each group of objects, and how many of them are segmented.

    Args:
        segmented: bool (T, H, W).
        groups: uint8 (T, H, W), a clip's ``object_groups``.

    Returns:
        int64 (T, G, 2): pixels, and segmented ones.

    Raises:
        ValueError: shapes differ, or ``groups`` holds a value that has no meaning.
    """
    if segmented.shape != groups.shape or segmented.ndim != 3:
        raise InputError(
            f"What is segmented has shape {tuple(segmented.shape)}, the groups of objects {tuple(groups.shape)}; "
            "both must be (frames, height, width)."
        )
    codes = len(_CODES) + 1
    num_frames = len(groups)
    groups = groups.to(segmented.device).flatten(1).int()
    if num_frames and int(groups.max()) >= codes:
        raise InputError(f"Groups of objects hold the value {int(groups.max())}; they go from 0 to {codes - 1}.")
    frame = torch.arange(num_frames, device=segmented.device, dtype=torch.int32)[:, None]
    place = ((frame * codes + groups) * 2 + segmented.flatten(1)).flatten()
    counts = torch.bincount(place, minlength=num_frames * codes * 2).view(num_frames, codes, 2)[:, _CODES]
    return torch.stack([counts.sum(-1), counts[..., 1]], dim=-1)


def object_scores(clips: Sequence[Tensor]) -> dict[str, float | int | None]:
    """Scores of some clips from their counts, all of which are summed.

    Args:
        clips: one result of ``count_objects`` per clip.

    Returns:
        shares in [0, 1], None where there is nothing to take a share of:
            ``silent_still``, ``silent_moving``, ``silent``: pixels of silent objects that are segmented;
            ``missed``: pixels of sounding objects that are not;
            ``right``: of the frames with a sounding and a silent object in view, those where more than half of the
            pixels that sound and less than half of those that do not are segmented; ``wrong``: the reverse;
            ``right_minus_wrong``;
        and ``silent_frames``, the number of the frames that ``right`` and ``wrong`` are shares of.
    """
    counts = torch.cat(list(clips)) if clips else torch.zeros(0, len(GROUPS), 2, dtype=torch.int64)
    (sounding, heard), (still, still_found), (moving, moving_found) = counts.sum(0).tolist()
    right, wrong, both = (int(frames.sum()) for frames in judge_frames(counts))
    scores = {
        "silent_still": _share(still_found, still),
        "silent_moving": _share(moving_found, moving),
        "silent": _share(still_found + moving_found, still + moving),
        "missed": _share(sounding - heard, sounding),
        "right": _share(right, both),
        "wrong": _share(wrong, both),
        "right_minus_wrong": _share(right - wrong, both),
    }
    return {**scores, "silent_frames": both}


def judge_frames(counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which frames are right, which are wrong, and which have a sounding and a silent object; bool (T,) each."""
    sounding, silent = counts[:, 0], counts[:, 1:].sum(1)
    both = (sounding[:, 0] > 0) & (silent[:, 0] > 0)
    # Whole numbers: exactly half is neither more nor less.
    sounding_found, silent_found = (2 * group[:, 1] - group[:, 0] for group in (sounding, silent))
    right = both & (sounding_found > 0) & (silent_found < 0)
    wrong = both & (sounding_found < 0) & (silent_found > 0)
    return right, wrong, both


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
