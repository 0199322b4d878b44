"""The model as a function of tensors only, for ONNX and torch.export, which have no notion of clips.

Shape legend: N frames, H x W the image, S flow fields per second, K classes, E x F the result.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ska_vct.modeling.batch import FrameBatch
from ska_vct.modeling.inference import segment


class InferenceNetwork(nn.Module):
    """Frames, audio and flow in, class scores out; equal to the model's result for a clip of the same frames."""

    def __init__(self, *, model: nn.Module, output_size: tuple[int, int]):
        """
        Args:
            model: an ``SKAVCT`` in inference mode.
            output_size: (E, F).
        """
        super().__init__()
        self.model = model
        self.output_size = tuple(output_size)

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs this model reads."""
        names = ["images", "log_mel"]
        names += ["flow"] if self.model.ska is not None else []
        names += ["pre_masks"] if self.model.pre_mask_encoder is not None else []
        return names + (["audio_second"] if self.model.reads_audio_second else [])

    def forward(
        self,
        images: Tensor,
        log_mel: Tensor,
        flow: Tensor | None = None,
        pre_masks: Tensor | None = None,
        audio_second: Tensor | None = None,
    ) -> Tensor:
        """Segment.

        Args:
            images: uint8 (N, 3, H, W), RGB; H and W multiples of 32.
            log_mel: float32 (N, 1, 96, 64).
            flow: float32 (N, S, 2, h, w), where the model has SKA.
            pre_masks: uint8 (N, 3, H, W), where the model has a pre-mask encoder.
            audio_second: float32 (N, 1, 100, 64), where a part of the model reads it.

        Returns:
            float32 (N, K, E, F), class scores, not normalised.
        """
        model = self.model
        size = tuple(images.shape[-2:])
        batch = FrameBatch(
            images=self._normalise(images),
            log_mel=log_mel,
            audio_second=audio_second,
            flow=flow,
            pre_masks=None if pre_masks is None else self._normalise(pre_masks),
            labels=None,
            lengths=[],
            image_sizes=[size],
        )
        predictions = model.predict(batch).predictions
        return segment(
            predictions.logits[-1],
            model.final_masks(predictions),
            padded_size=size,
            image_size=size,
            output_size=self.output_size,
        )

    def _normalise(self, images: Tensor) -> Tensor:
        return (images.float() - self.model.pixel_mean) / self.model.pixel_std


def example_inputs(
    cfg: CfgNode, network: InferenceNetwork, *, frames: int, size: tuple[int, int]
) -> dict[str, Tensor]:
    """Random inputs by name.

    Args:
        cfg: the model's config.
        network: the network.
        frames: N.
        size: (H, W).
    """
    generator = torch.Generator().manual_seed(frames)

    def image() -> Tensor:
        return torch.randint(0, 256, (frames, 3, *size), dtype=torch.uint8, generator=generator)

    inputs = {"images": image(), "log_mel": torch.randn(frames, 1, 96, 64, generator=generator)}
    if "flow" in network.input_names:
        shape = (frames, cfg.INPUT.FLOW.SERIES, 2, *cfg.INPUT.FLOW.SIZE)
        inputs["flow"] = torch.rand(shape, generator=generator)
    if "pre_masks" in network.input_names:
        inputs["pre_masks"] = image()
    if "audio_second" in network.input_names:
        inputs["audio_second"] = torch.randn(frames, 1, 100, 64, generator=generator)
    return inputs


@contextmanager
def exportable() -> Iterator[None]:
    """Make attention exportable as ONNX's decomposition expects it."""
    # Other kernels leave their result in another order in memory, which ONNX's decomposition does not.
    with sdpa_kernel(SDPBackend.MATH):
        yield


def rounded_size(size: tuple[int, int], divisor: int = 32) -> tuple[int, int]:
    """The smallest multiples of ``divisor`` that hold ``size``."""
    return tuple(math.ceil(side / divisor) * divisor for side in size)
