"""The clip: what mapper, model, criterion and evaluator pass to each other.

A clip is a plain ``dict`` (Detectron2's convention for a dataset item) whose tensors share their first axis.

Shape legend
    T     frames of the clip that are present, one per second of video
    H, W  size of the network's input, pixels
    S     flow fields per second, 1 or more
    h, w  any size of the flow field
    E, F  size of the label maps: H, W in training, the evaluation size (224, 224) in testing

===============  =======  ===============  ============================================================
field            dtype    shape            meaning
===============  =======  ===============  ============================================================
images           uint8    (T, 3, H, W)     RGB, 0..255
log_mel          float32  (T, 1, 96, 64)   ln(mel + 0.01) of the frame's second: 96 steps of 10 ms, 64 bands
audio_second     float32  (T, 1, 100, 64)  optional; the same for exactly the frame's second, hop m from m / 100 s;
                                           NaN in hops that the clip's file lacks
frame_valid      bool     (T,)             False: a padding frame that does not exist in the clip
mask_valid       bool     (T,)             True: the frame is annotated
masks            int64    (T, E, F)        class index per pixel; 255 is ignored; rows without
                                           annotation are all 255
flow             float32  (T, S, 2, h, w)  optional; u right, v down, in units of the normalisation
                                           chosen by ``INPUT.FLOW.NORM``; same geometry as the image
pre_masks        uint8    (T, 3, H, W)     optional; RGB image of class-agnostic segments
category         int      scalar           prototype index of the clip's class; -1 when it has none
clip_id          str      scalar           unique within its dataset, e.g. ``test/dog/abc``
subset           str      scalar           ``s4``, ``ms3`` or ``avss``
height, width    int      scalar           size of the semantic result
frame_index      int64    (T,)             index of each frame in the released clip, from 0
condition        str      scalar           optional; how the clip was modified, see
                                           ``ska_vct/experiments/robustness``
noise_seed       int      scalar           optional, training; seed of the noise that the model draws for the clip
object_groups    uint8    (T, E, F)        optional, synthetic clips only: what the pixel's object does, 0 without
                                           an object; see below
===============  =======  ===============  ============================================================

``object_groups`` holds ``SOUNDING``, ``SILENT_STILL`` and ``SILENT_MOVING`` per frame: an object that sounds in
other seconds of its clip but not in this one counts as silent and still, and is not foreground in ``masks``.
"""

from collections.abc import Mapping

import torch

from ska_vct.utils.errors import SkaVctError

IGNORE_LABEL = 255
UNKNOWN_CATEGORY = -1
SOUNDING, SILENT_STILL, SILENT_MOVING = 1, 2, 3
# ``condition`` of an unmodified clip; others are in ska_vct/experiments/robustness/conditions.py.
TRUE_CONDITION = "true"

# field -> (dtypes, number of dimensions, required)
CLIP_FIELDS = {
    "images": ((torch.uint8,), 4, True),
    "log_mel": ((torch.float32,), 4, True),
    "audio_second": ((torch.float32,), 4, False),
    "frame_valid": ((torch.bool,), 1, True),
    "mask_valid": ((torch.bool,), 1, True),
    "frame_index": ((torch.int64,), 1, False),
    "masks": ((torch.int64,), 3, False),
    "flow": ((torch.float32,), 5, False),
    "pre_masks": ((torch.uint8,), 4, False),
    "object_groups": ((torch.uint8,), 3, False),
}


# field -> sizes after the first axis
_TRAILING_SHAPES = {
    "images": (3,),
    "log_mel": (1, 96, 64),
    "audio_second": (1, 100, 64),
    "pre_masks": (3,),
}


class ClipError(SkaVctError, ValueError):
    """A clip lacks the fields, types or shapes that this module documents."""


def validate_clip(clip: Mapping, *, needs: tuple[str, ...] = ()) -> None:
    """Check a clip's fields, types and shapes without reading the data.

    Args:
        clip: as the module's docstring describes it.
        needs: further required fields, e.g. ``("flow", "masks")``.

    Raises:
        ClipError: names the clip, the field, and what was found and expected.
    """
    name = clip.get("clip_id", "(no clip_id)")
    required = {field for field, (_, _, must) in CLIP_FIELDS.items() if must} | set(needs)
    missing = sorted(field for field in required if clip.get(field) is None)
    if missing:
        raise ClipError(f"Clip '{name}' lacks {', '.join(missing)}; it has {', '.join(sorted(clip))}.")
    num_frames = clip["images"].shape[0]
    for field, (dtypes, ndim, _) in CLIP_FIELDS.items():
        value = clip.get(field)
        if value is None:
            continue
        if value.dtype not in dtypes or value.ndim != ndim:
            raise ClipError(
                f"Clip '{name}': '{field}' is {value.dtype} with {value.ndim} dimensions, expected "
                f"{' or '.join(map(str, dtypes))} with {ndim}."
            )
        if value.shape[0] != num_frames:
            raise ClipError(
                f"Clip '{name}': '{field}' has {value.shape[0]} frames but 'images' has {num_frames}; "
                "every per-frame field must have the same number of rows."
            )
    if num_frames == 0:
        raise ClipError(f"Clip '{name}' has no frames.")
    for field, want in _TRAILING_SHAPES.items():
        value = clip.get(field)
        if value is not None and tuple(value.shape[1 : 1 + len(want)]) != want:
            raise ClipError(
                f"Clip '{name}': '{field}' has shape {tuple(value.shape)}, expected {want} after the first axis."
            )
    if clip.get("flow") is not None and clip["flow"].shape[2] != 2:
        raise ClipError(f"Clip '{name}': 'flow' has shape {tuple(clip['flow'].shape)}, expected (T, S, 2, h, w).")
