"""Traces one pass of a model without data: parameters, FLOPs and saved memory by part."""

from collections import Counter
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from detectron2.config import CfgNode
from torch import nn

from ..timing.clips import make_clips
from .fake import build_without_data, fake_run
from .flops import FlopCounter
from .kernels import fused_kernels
from .parts import PARTS, REST, PartTracker, part_of
from .saved import SavedTensors

PART_NAMES = (*PARTS.values(), REST)


@dataclass
class Trace:
    """Result of one pass.

    Attributes:
        frames: number of frames computed by the network.
        parameters, trained: number of (trained) parameters by part.
        parameter_bytes, trained_bytes, buffer_bytes: bytes by part.
        flops: FLOPs by part.
        operations: FLOPs by operation.
        uncounted: calls of operations without a rule.
        saved: bytes saved by autograd, by part; empty in inference.
    """

    frames: int
    parameters: Mapping[str, int]
    trained: Mapping[str, int]
    parameter_bytes: Mapping[str, int]
    trained_bytes: Mapping[str, int]
    buffer_bytes: Mapping[str, int]
    flops: Mapping[str, int] = field(default_factory=dict)
    operations: Mapping[str, int] = field(default_factory=dict)
    uncounted: Mapping[str, int] = field(default_factory=dict)
    saved: Mapping[str, int] = field(default_factory=dict)

    @property
    def backbone_share(self) -> float:
        """The visual backbone's share of the FLOPs."""
        return self.flops.get(PARTS["backbone"], 0) / max(sum(self.flops.values()), 1)


def parameter_counts(model: nn.Module) -> dict[str, dict[str, int]]:
    """Fields of :class:`Trace` that depend on the model only."""
    counts: dict[str, Counter] = {
        name: Counter() for name in ("parameters", "trained", "parameter_bytes", "trained_bytes", "buffer_bytes")
    }
    for name, parameter in model.named_parameters():
        size = parameter.numel() * parameter.element_size()
        counts["parameters"][part_of(name)] += parameter.numel()
        counts["parameter_bytes"][part_of(name)] += size
        if parameter.requires_grad:
            counts["trained"][part_of(name)] += parameter.numel()
            counts["trained_bytes"][part_of(name)] += size
    for name, buffer in model.named_buffers():
        counts["buffer_bytes"][part_of(name)] += buffer.numel() * buffer.element_size()
    return {name: dict(count) for name, count in counts.items()}


def trace(
    cfg: CfgNode, *, clips: int = 1, frames: int = 0, train: bool = False, amp: bool = False, fused: bool = True
) -> Trace:
    """Trace the model of ``cfg`` without data.

    Args:
        cfg: the config; ``INPUT.SIZE`` is the image size.
        clips, frames: clips per batch and frames per clip (0: the subset's); training computes only annotated
            ones.
        train: trace a training step with losses and saved tensors, else inference.
        amp: use bfloat16 autocast with the CPU's rules.
        fused: assume fused kernels for scaled-dot-product attention, else PyTorch's choice on a CPU.
    """
    batch = make_clips(cfg, clips=clips, frames=frames, train=train)
    model = build_without_data(cfg).train(train)
    counts = parameter_counts(model)
    tracker = PartTracker()
    with fake_run(model), tracker.follow(model):
        saved = SavedTensors(tracker, model)
        counter = FlopCounter(tracker)
        autocast = torch.autocast("cpu", torch.bfloat16) if amp else nullcontext()
        with torch.set_grad_enabled(train), saved, counter, fused_kernels(counter.add, attention=fused), autocast:
            out = model(batch)
    del out
    operations: Counter[str] = Counter()
    for (_, operation), flops in counter.flops.items():
        operations[operation] += flops
    computed = [clip["mask_valid" if train else "frame_valid"] for clip in batch]
    return Trace(
        frames=sum(int(valid.sum()) for valid in computed),
        **counts,
        flops=counter.by_part(),
        operations=dict(operations),
        uncounted=dict(counter.uncounted),
        saved=dict(saved.bytes),
    )
