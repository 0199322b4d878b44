"""Compares implementations of multi-scale deformable attention, forward and backward."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode
from torch import Tensor

from ska_vct.modeling.layers.deform_attn import DEFORM_IMPLEMENTATIONS, require

from .subject import HALF_TYPES, Subject, case_cfg, precision_label
from .work import BenchmarkError, Case, Clock, Work

# Strides of the three levels read by the pixel decoder's encoder, coarse to fine.
_STRIDES = (32, 16, 8)
# Standard deviation of the sampling offsets, cells; similar to the published initial offsets.
_SPREAD = 4.0


def runnable(device: str, dim: int) -> list[str]:
    """Names of the implementations that support ``device`` and heads of width ``dim``."""
    return [name for name in DEFORM_IMPLEMENTATIONS if not _problem(name, device, dim)]


def _problem(name: str, device: str, dim: int) -> str:
    try:
        require(name, device=torch.device(device), dim=dim)
    except ValueError as error:
        return str(error)
    return ""


class DeformSubject(Subject):
    name = "deform"

    def options(
        self,
        *,
        device: str,
        batch: int = 1,
        frames: int = 0,
        amp: Sequence[str] = ("off",),
        implementations: Sequence[str] | None = None,
    ) -> Sequence[tuple[str, dict]]:
        """
        Args:
            batch: clips per call.
            frames: frames per clip; 0 for 5.
            amp: precisions, ``off``, ``bf16`` or ``fp16``.
            implementations: names in ``DEFORM_IMPLEMENTATIONS``; None for all that support ``device``.
        """
        # The width of the config's heads is checked when a row is built.
        names = implementations or runnable(device, 1)
        return [
            (
                f"{name} {precision_label(precision, amp)}".strip(),
                {"implementation": name, "amp": precision, "batch": batch, "frames": frames},
            )
            for precision in amp
            for name in names
        ]

    def build(self, case: Case) -> Work:
        cfg = case_cfg(case)
        name = case.options["implementation"]
        problem = _problem(name, case.device, cfg.MODEL.HIDDEN_DIM // cfg.MODEL.PIXEL_DECODER.NUM_HEADS)
        if problem:
            raise BenchmarkError(problem)
        function = DEFORM_IMPLEMENTATIONS[name]
        frames = case.options["batch"] * (case.options["frames"] or 5)
        value, shapes, locations, weights = attention_inputs(cfg, frames)
        dtype = HALF_TYPES.get(case.options["amp"], torch.float32)
        # Locations stay in fp32: bfloat16 is too coarse for half of the image's cells.
        leaves = [
            tensor.to(case.device, kind).requires_grad_()
            for tensor, kind in ((value, dtype), (locations, torch.float32), (weights, dtype))
        ]
        value, locations, weights = leaves

        def run(clock: Clock) -> None:
            for leaf in leaves:
                leaf.grad = None
            with clock("forward"):
                out = function(value, shapes, locations, weights)
            with clock("backward"):
                out.backward(torch.ones_like(out))

        return Work(run=run, clips=case.options["batch"], frames=frames, facts={"levels": shapes})


def attention_inputs(cfg: CfgNode, frames: int) -> tuple[Tensor, list[tuple[int, int]], Tensor, Tensor]:
    """Value, level shapes, sampling locations and weights of one encoder layer of ``cfg``; see
    ``ska_vct/modeling/layers/ms_deform_attn.py``.
    """
    node = cfg.MODEL.PIXEL_DECODER
    generator = torch.Generator().manual_seed(0)
    shapes = [tuple(-(-side // stride) for side in cfg.INPUT.SIZE) for stride in _STRIDES]
    queries = sum(height * width for height, width in shapes)
    points_shape = (frames, queries, node.NUM_HEADS, len(shapes), node.NUM_POINTS)
    value = torch.randn(
        frames, queries, node.NUM_HEADS, cfg.MODEL.HIDDEN_DIM // node.NUM_HEADS, generator=generator
    )
    centres = torch.rand(1, queries, 1, 1, 1, 2, generator=generator)
    sides = torch.tensor([(width, height) for height, width in shapes], dtype=torch.float32)
    offsets = _SPREAD * torch.randn(*points_shape, 2, generator=generator) / sides[:, None]
    weights = torch.rand(points_shape, generator=generator).flatten(3).softmax(-1).view(points_shape)
    return value, shapes, centres + offsets, weights
