"""From queries to a semantic map (Cheng et al., "Mask2Former", CVPR 2022)."""

import torch
import torch.nn.functional as F
from torch import Tensor

# Numbers of full-size masks at a time: 100 queries of one frame of 384 x 384 pixels are 15 million.
_MASK_NUMBERS = 1 << 25


def semantic_inference(logits: Tensor, masks: Tensor) -> Tensor:
    """Per pixel and class, the sum over queries of class probability times mask.

    Args:
        logits: (N, Q, K + 1), the last class is "no object".
        masks: (N, Q, H, W) logits.

    Returns:
        (N, K, H, W), not normalised.
    """
    return torch.einsum("nqk,nqhw->nkhw", logits.softmax(-1)[..., :-1], masks.sigmoid())


def segment(
    logits: Tensor,
    masks: Tensor,
    *,
    padded_size: tuple[int, int],
    image_size: tuple[int, int],
    output_size: tuple[int, int],
) -> Tensor:
    """Semantic maps at the wanted size.

    Args:
        logits: (N, Q, K + 1).
        masks: (N, Q, h, w) logits over the padded image.
        padded_size: (H, W) the network saw.
        image_size: (H, W) of the image inside it, at the top left.
        output_size: (H, W) wanted.

    Returns:
        float32 (N, K, *output_size).
    """
    frames = max(1, _MASK_NUMBERS // (masks.shape[1] * padded_size[0] * padded_size[1]))
    # A graph that is being exported for any number of frames cannot count them.
    parts = [(logits, masks)]
    if not torch.compiler.is_exporting():
        parts = zip(logits.split(frames), masks.split(frames), strict=True)
    results = []
    for few_logits, few_masks in parts:
        large = F.interpolate(few_masks.float(), size=padded_size, mode="bilinear", align_corners=False)
        semantic = semantic_inference(few_logits.float(), large[..., : image_size[0], : image_size[1]])
        results.append(F.interpolate(semantic, size=output_size, mode="bilinear", align_corners=False))
    return torch.cat(results)
