"""Peak memory of a training step as a + b * frames, fitted to measurements on this machine.

Each step runs in its own process (``ska_vct/profiling/timing``). For mixed precision, b is scaled by
the ratio of the bytes that autograd saves under bfloat16 autocast and in float32, both computed from shapes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from detectron2.config import CfgNode

from ..timing import SUBJECTS, BenchmarkError, Case, measure_in_turn
from .report import MIB
from .trace import Trace, trace

_MAPPED_FROM = 2**17


@dataclass(frozen=True)
class LinearModel:
    """Memory in bytes: ``fixed + per_frame * frames``."""

    fixed: float
    per_frame: float

    def __call__(self, frames: int) -> float:
        return self.fixed + self.per_frame * frames

    @classmethod
    def fit(cls, peaks: Mapping[int, int]) -> "LinearModel":
        """Least-squares fit to ``peaks``, bytes by number of frames.

        Raises:
            BenchmarkError: there are fewer than two frame counts.
        """
        if len(peaks) < 2:
            raise BenchmarkError("A line needs at least two frame counts; add more with --fit-frames.")
        per_frame, fixed = np.polyfit(list(peaks), list(peaks.values()), 1)
        return cls(float(fixed), float(per_frame))


def measure_peaks(
    config_file: str, opts: Sequence[str], frames: Sequence[int], *, threads: int = 0, progress: bool = True
) -> dict[int, int]:
    """Peak memory added by a training step on one clip, in bytes, by the clip's number of annotated frames."""
    cases = [
        Case(
            subject="train",
            name=f"{count} frames",
            config_file=config_file,
            opts=(*opts, "INPUT.FRAMES_PER_CLIP", "0"),
            options={"batch": 1, "frames": count, "annotated": count, "amp": "off"},
            threads=threads,
            warmup=0,
            min_seconds=0.0,
            mmap_threshold=_MAPPED_FROM,
        )
        for count in frames
    ]
    found = measure_in_turn(cases, SUBJECTS["train"].build, repeat=1, apart=True, progress=progress)
    return {count: measurement.peak_bytes for count, measurement in zip(frames, found, strict=True)}


def fit_report(
    cfg: CfgNode,
    peaks: Mapping[int, int],
    *,
    held_out: Sequence[int],
    batch: int,
    frames: int = 0,
) -> dict[str, Any]:
    """Fit, test and extrapolate.

    Args:
        cfg: the measured config.
        peaks: bytes by number of frames, from :func:`measure_peaks`; those in ``held_out`` test the fit.
        held_out: numbers of frames excluded from the fit.
        batch: batch size of the training recipe, clips.
        frames: frames per clip; 0 for the subset's.

    Returns:
        ``fixed_bytes``, ``bytes_per_frame``; ``held_out``: by frames ``measured``, ``predicted`` and the relative
        ``error``; ``recipe``: frames of the batch, and bytes ``fp32``, ``amp`` as the fit predicts them, and
        ``fp32_from_shapes``, ``amp_from_shapes`` with fused attention kernels.
    """
    model = LinearModel.fit({count: peak for count, peak in peaks.items() if count not in held_out})
    # Unfused attention, as on this machine, for the ratio; fused kernels, as on a GPU, for the totals.
    plain, plain_amp = (
        trace(cfg, clips=batch, frames=frames, train=True, amp=amp, fused=False) for amp in (False, True)
    )
    fused, fused_amp = (trace(cfg, clips=batch, frames=frames, train=True, amp=amp) for amp in (False, True))
    ratio = sum(plain_amp.saved.values()) / sum(plain.saved.values())
    count = plain.frames
    return {
        "measured_bytes": {str(number): peak for number, peak in peaks.items()},
        "fixed_bytes": model.fixed,
        "bytes_per_frame": model.per_frame,
        "held_out": {
            str(number): {
                "measured": peaks[number],
                "predicted": model(number),
                "error": model(number) / peaks[number] - 1,
            }
            for number in held_out
        },
        "amp_ratio": ratio,
        "recipe": {
            "clips": batch,
            "frames": count,
            "fp32": model(count),
            "amp": model.fixed + ratio * model.per_frame * count,
            "fp32_from_shapes": held_bytes(fused),
            "amp_from_shapes": held_bytes(fused_amp),
        },
    }


def held_bytes(found: Trace) -> int:
    """Bytes of parameters, gradients, two optimizer moments, buffers, and tensors saved by autograd."""
    fixed = (found.parameter_bytes, found.buffer_bytes, *[found.trained_bytes] * 3)
    return sum(sum(sizes.values()) for sizes in (*fixed, found.saved))


def fit_text(report: Mapping[str, Any]) -> str:
    """``fit_report`` as text."""
    recipe = report["recipe"]
    lines = [
        f"Peak = {report['fixed_bytes'] / MIB:.0f} MiB + {report['bytes_per_frame'] / MIB:.1f} MiB per annotated "
        f"frame, fitted to training steps on this machine's CPU, fp32.",
    ]
    for number, found in report["held_out"].items():
        lines.append(
            f"Held out, {number} frames: measured {found['measured'] / MIB:.0f} MiB, predicted "
            f"{found['predicted'] / MIB:.0f} MiB, error {100 * found['error']:+.1f} %."
        )
    lines += [
        f"{recipe['clips']} clips ({recipe['frames']} annotated frames): {recipe['fp32'] / MIB / 1024:.1f} GiB in "
        f"fp32, {recipe['amp'] / MIB / 1024:.1f} GiB under bf16 autocast (activations times "
        f"{report['amp_ratio']:.2f}, from the types of saved tensors).",
        f"From shapes alone, with fused attention kernels: {recipe['fp32_from_shapes'] / MIB / 1024:.1f} GiB held "
        f"in fp32, {recipe['amp_from_shapes'] / MIB / 1024:.1f} GiB under bf16 autocast; workspaces come on top.",
        "No GPU was measured; these are predictions.",
    ]
    return "\n".join(lines)
