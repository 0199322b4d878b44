"""Names of published VCT checkpoints (Huang et al., CVPR 2025; COMBO-AVS shares most) <-> ours.

A published model's state has the parts ``backbone``, ``pre_sam_backbone``, ``scale_factor_module``,
``audio_backbone``, ``sem_seg_head`` and ``criterion``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

# Published prefix -> ours; the rest of the name stays.
_RENAMES = (
    (r"backbone\.", "backbone.network."),
    (r"pre_sam_backbone\.", "pre_mask_encoder.backbone.network."),
    (r"scale_factor_module\.(\d)\.fc1\.", lambda m: f"pre_mask_encoder.gates.res{int(m[1]) + 2}.squeeze."),
    (r"scale_factor_module\.(\d)\.fc2\.", lambda m: f"pre_mask_encoder.gates.res{int(m[1]) + 2}.excite."),
    (r"audio_backbone\.features\.", "audio_encoder.backbone."),
    (r"sem_seg_head\.audio_transformation\.embeddings\.", "audio_encoder.mlp."),
    (r"sem_seg_head\.pixel_decoder\.transformer\.level_embed", "pixel_decoder.level_embed"),
    (r"sem_seg_head\.pixel_decoder\.transformer\.encoder\.layers\.", "pixel_decoder.layers."),
    (r"sem_seg_head\.pixel_decoder\.adapter_1\.", "pixel_decoder.lateral."),
    (r"sem_seg_head\.pixel_decoder\.layer_1\.", "pixel_decoder.output."),
    (r"sem_seg_head\.pixel_decoder\.(input_proj|mask_features)\.", r"pixel_decoder.\1."),
    (
        r"sem_seg_head\.predictor\.transformer_cross_attention_layers\.(\d+)\.(?:multihead_attn(?=\.)|(?=norm))",
        lambda m: _attention_place(m, "cross_attention"),
    ),
    (
        r"sem_seg_head\.predictor\.transformer_self_attention_layers\.(\d+)\.(?:self_attn(?=\.)|(?=norm))",
        lambda m: _attention_place(m, "self_attention"),
    ),
    (r"sem_seg_head\.predictor\.transformer_ffn_layers\.(\d+)\.", r"decoder.layers.\1.feed_forward."),
    (r"sem_seg_head\.predictor\.decoder_norm\.", "decoder.norm."),
    (r"sem_seg_head\.predictor\.query_feat\.", "mpqg.query_feat."),
    (r"sem_seg_head\.predictor\.(query_embed|level_embed|class_embed)\.", r"decoder.\1."),
    # Our MLPs count their ReLUs, the published ones do not.
    (r"sem_seg_head\.predictor\.mask_embed\.layers\.(\d)\.", lambda m: f"decoder.mask_embed.{2 * int(m[1])}."),
    (
        r"sem_seg_head\.predictor\.visual_query_block\.query_mixer\.layers\.(\d)\.",
        lambda m: f"mpqg.query_mixer.{2 * int(m[1])}.",
    ),
    (r"sem_seg_head\.predictor\.visual_query_block\.prototype\.", "mpqg.prototypes."),
    (r"sem_seg_head\.predictor\.visual_query_block\.pre_proj\.", "mpqg.pre_proj."),
    (
        r"sem_seg_head\.predictor\.visual_query_block\.pre_attn\.(?:multihead_attn(?=\.)|(?=norm))",
        lambda m: "mpqg.prototype_attention." + ("attention" if m[0].endswith("attn") else ""),
    ),
    (r"sem_seg_head\.predictor\.visual_query_block\.assign_attn\.proj\.", "mpqg.grouping.out_proj."),
    (r"sem_seg_head\.predictor\.visual_query_block\.assign_attn\.", "mpqg.grouping."),
    (r"sem_seg_head\.predictor\.audio_proj\.", "prototype_alignment.audio_proj."),
    (r"sem_seg_head\.predictor\.proto_proj\.", "prototype_alignment.prototype_proj."),
    (r"criterion\.logit_scale", "prototype_alignment.logit_scale"),
)

# Published entries that no forward pass reads, and why.
KNOWN_UNUSED = (
    (r"audio_backbone\.embeddings\.", "VGGish's fully connected layers are never run"),
    (r"criterion\.empty_weight$", "follows from MODEL.CRITERION.NO_OBJECT_WEIGHT"),
    (r"(audio_backbone\.)?pproc\.", "VGGish's post-processing is never run"),
)


# PVTv2 as its authors name it -> timm's feature network; below the backbone's prefix.
_PVT_RENAMES = (
    (r"patch_embed1\.", "patch_embed."),
    (r"patch_embed(\d)\.", lambda m: f"stages_{int(m[1]) - 1}.downsample."),
    (r"block(\d)\.(\d+)\.", lambda m: f"stages_{int(m[1]) - 1}.blocks.{m[2]}."),
    (r"norm(\d)\.", lambda m: f"stages_{int(m[1]) - 1}.norm."),
)
_BACKBONES = ("backbone.", "pre_sam_backbone.")


def _attention_place(match: re.Match, kind: str) -> str:
    inner = "attention" if match[0].endswith("attn") else ""
    return f"decoder.layers.{match[1]}.{kind}.{inner}"


@dataclass(frozen=True)
class Converted:
    """A state dict in our names.

    Attributes:
        state: our name -> tensor.
        unused: published name -> why it is not needed.
    """

    state: dict[str, Tensor]
    unused: dict[str, str]


def convert_name(name: str) -> str | None:
    """Our name of one published entry; None where there is none."""
    for pattern, replacement in _RENAMES:
        renamed, count = re.subn("^" + pattern, replacement, name)
        if count:
            return renamed
    return None


def _pvt_to_timm(name: str) -> str:
    for prefix in _BACKBONES:
        if name.startswith(prefix):
            rest = name[len(prefix) :].replace("dwconv.dwconv", "dwconv")
            for pattern, replacement in _PVT_RENAMES:
                rest, count = re.subn("^" + pattern, replacement, rest)
                if count:
                    break
            return prefix + rest
    return name


def from_vct(state: Mapping[str, Tensor]) -> Converted:
    """Convert a published state dict; every entry is used or listed.

    Args:
        state: names as published, e.g. ``sem_seg_head.predictor.class_embed.weight``.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """
    if any(name.startswith(tuple(f"{prefix}block1." for prefix in _BACKBONES)) for name in state):
        state = {_pvt_to_timm(name): tensor for name, tensor in state.items()}
    ours: dict[str, Tensor] = {}
    unused: dict[str, str] = {}
    unknown = []
    for name, tensor in state.items():
        reason = next((why for pattern, why in KNOWN_UNUSED if re.match(pattern, name)), None)
        renamed = convert_name(name)
        if reason is not None:
            unused[name] = reason
        elif renamed is None:
            unknown.append(name)
        elif renamed.endswith(("in_proj_weight", "in_proj_bias")):
            # One matrix for query, key and value is three of ours.
            stem, kind = renamed.rsplit("in_proj_", 1)
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                ours[f"{stem}{part}_proj.{kind}"] = chunk.clone()
        else:
            ours[renamed] = tensor
    if unknown:
        raise KeyError(
            f"{len(unknown)} entries are not of a published VCT checkpoint: {', '.join(unknown[:8])}"
            f"{' …' if len(unknown) > 8 else ''}. Is it a checkpoint of another program?"
        )
    return Converted(state=ours, unused=unused)
