"""What happens inside the model on the way to a mask, for people who look at it (docs/visualization.md).

Shape legend: T frames of a clip, Q queries, k of them shown, H heads, g x g flow grid, h x w mask-feature grid.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .layers import at_least_float32
from .meta_arch import SKAVCT
from .motion.ska import MotionPrompt
from .outputs import FrameOutputs


@torch.no_grad()
def inspect(model: SKAVCT, clips: Sequence[Mapping], *, num_queries: int = 3) -> list[dict[str, Tensor]]:
    """Segment clips and return the model's inner maps as well.

    A query's activation is the mask that the decoder would read from it before its first layer, times the
    probability that the query stands for an object. It is computed from the queries as generated with the motion
    prompt, and once more as generated without it from the same features.

    Args:
        model: in inference mode.
        clips: as ``ska_vct.structures.clip`` describes.
        num_queries: k, queries to return one by one, those that are activated most in the clip.

    Returns:
        the results of ``model(clips)``, each with, where the model has a motion module:
            ``attention`` (T, H, g, g), weights of each head of SKA, sum 1 (only if the module attends);
            ``activation_plain`` (T, h, w) in [0, 1], that of all queries together, without the prompt;
            ``queries_plain`` (T, k, h, w) in [0, 1];
        and always:
            ``activation`` (T, h, w) and ``queries`` (T, k, h, w), the same with the prompt;
            ``query_index`` int64 (k,), which queries these are.

    Raises:
        ClipError: naming the clip and the field that is wrong.
    """
    batch = model.collate(clips)
    outputs = model.predict(batch)
    results = model.results(clips, batch, outputs)
    prompted = batch.split_maps(_activation(model, outputs, outputs.prompt))
    plain = None if outputs.prompt is None else batch.split_maps(_activation(model, outputs, None))
    for index, result in enumerate(results):
        best = prompted[index].sum((0, 2, 3)).topk(min(num_queries, prompted[index].shape[1])).indices
        result["query_index"] = best
        for name, maps in (("", prompted), ("_plain", plain)):
            if maps is not None:
                result[f"activation{name}"] = maps[index].sum(1).clamp(max=1)
                result[f"queries{name}"] = maps[index][:, best]
    if outputs.prompt is not None and outputs.prompt.attention is not None:
        for result, attention in zip(results, outputs.prompt.attention.split(batch.lengths), strict=True):
            result["attention"] = attention
    return results


def _activation(model: SKAVCT, outputs: FrameOutputs, prompt: MotionPrompt | None) -> Tensor:
    """Each query's activation, (N, Q, h, w) in [0, 1]."""
    queries = model.mpqg(outputs.mask_features, prompt)
    features = outputs.mask_features
    if model.map_features is not None and prompt is not None:
        features, _ = model.map_features(prompt, features, outputs.scales)
    logits, embeds = model.decoder.predict(queries)
    # Neither background, the first class, nor "no object", the last.
    is_object = at_least_float32(logits).softmax(-1)[..., 1:-1].sum(-1)
    masks = torch.einsum("nqd,ndhw->nqhw", embeds, features)
    return at_least_float32(masks).sigmoid() * is_object[..., None, None]
