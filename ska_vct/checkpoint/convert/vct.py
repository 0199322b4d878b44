"""Translates names of published VCT checkpoints (Huang et al., CVPR 2025) and related models to and from ours.

A published model's state has the parts ``backbone``, ``pre_sam_backbone``, ``scale_factor_module``,
``audio_backbone``, ``sem_seg_head`` and ``criterion``. COMBO-AVS (Yang et al., CVPR 2024) and Mask2Former (Cheng
et al., CVPR 2022) use the same names for the parts they share; their decoders do not read audio.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor

from .backbones import network_from_published, network_to_published
from .names import Converted, NameTable, convert

_HEAD = "sem_seg_head."
_PREDICTOR = f"{_HEAD}predictor."
_QUERIES = f"{_PREDICTOR}visual_query_block."
_PIXELS = f"{_HEAD}pixel_decoder."
_PIXEL_PARTS = (
    ("transformer.level_embed", "level_embed"),
    ("transformer.encoder.layers.", "layers."),
    ("adapter_1.", "lateral."),
    ("layer_1.", "output."),
    ("input_proj.", "input_proj."),
    ("mask_features.", "mask_features."),
)
# Published backbone prefixes -> ours.
_NETWORKS = {"backbone.": "backbone.network.", "pre_sam_backbone.": "pre_mask_encoder.backbone.network."}

_RULES = [
    ("audio_backbone.features.", "audio_encoder.backbone."),
    (f"{_HEAD}audio_transformation.embeddings.", "audio_encoder.mlp."),
    *((_PIXELS + theirs, f"pixel_decoder.{ours}") for theirs, ours in _PIXEL_PARTS),
    (
        f"{_PREDICTOR}transformer_cross_attention_layers.#.multihead_attn.",
        "decoder.layers.#.cross_attention.attention.",
    ),
    (f"{_PREDICTOR}transformer_cross_attention_layers.#.norm.", "decoder.layers.#.cross_attention.norm."),
    (f"{_PREDICTOR}transformer_self_attention_layers.#.self_attn.", "decoder.layers.#.self_attention.attention."),
    (f"{_PREDICTOR}transformer_self_attention_layers.#.norm.", "decoder.layers.#.self_attention.norm."),
    (f"{_PREDICTOR}transformer_ffn_layers.#.", "decoder.layers.#.feed_forward."),
    (f"{_PREDICTOR}decoder_norm.", "decoder.norm."),
    (f"{_PREDICTOR}query_feat.", "mpqg.query_feat."),
    *((f"{_PREDICTOR}{name}.", f"decoder.{name}.") for name in ("query_embed", "level_embed", "class_embed")),
    (f"{_QUERIES}prototype.", "mpqg.prototypes."),
    (f"{_QUERIES}pre_proj.", "mpqg.pre_proj."),
    (f"{_QUERIES}pre_attn.multihead_attn.", "mpqg.prototype_attention.attention."),
    (f"{_QUERIES}pre_attn.norm.", "mpqg.prototype_attention.norm."),
    (f"{_QUERIES}assign_attn.proj.", "mpqg.grouping.out_proj."),
    (f"{_QUERIES}assign_attn.", "mpqg.grouping."),
    (f"{_PREDICTOR}audio_proj.", "prototype_alignment.audio_proj."),
    (f"{_PREDICTOR}proto_proj.", "prototype_alignment.prototype_proj."),
    ("criterion.logit_scale", "prototype_alignment.logit_scale"),
]
for _index in range(4):
    _gate = f"pre_mask_encoder.gates.res{_index + 2}."
    _RULES += [
        (f"scale_factor_module.{_index}.fc1.", f"{_gate}squeeze."),
        (f"scale_factor_module.{_index}.fc2.", f"{_gate}excite."),
    ]
for _index in range(3):
    # Our MLPs number their ReLUs, the published ones do not.
    _RULES += [
        (f"{_PREDICTOR}mask_embed.layers.{_index}.", f"decoder.mask_embed.{2 * _index}."),
        (f"{_QUERIES}query_mixer.layers.{_index}.", f"mpqg.query_mixer.{2 * _index}."),
    ]
_TABLE = NameTable(_RULES)
# Names of Mask2Former's first version, read but never written.
_OLD_TABLE = NameTable(
    [
        *((_HEAD + theirs, f"pixel_decoder.{ours}") for theirs, ours in _PIXEL_PARTS),
        (f"{_PREDICTOR}static_query.", "mpqg.query_feat."),
    ]
)

# Published entries that are never used in a forward pass, and why.
KNOWN_UNUSED = {
    r"audio_backbone\.embeddings\.": "VGGish's fully connected layers are never run",
    r"(audio_backbone\.)?pproc\.": "VGGish's post-processing is never run",
    r"criterion\.empty_weight$": "computed from MODEL.CRITERION.NO_OBJECT_WEIGHT",
}
_COMBO_UNUSED = {
    r"(sem_seg_head\.)?fusion_module\.": "our model does not fuse audio and images before the decoder",
    r"(sem_seg_head\.)?audio_transformation\.": "it reads VGGish's 128-d embedding, ours reads its feature grid",
}
_MASK2FORMER_UNUSED = {
    r"sem_seg_head\.predictor\.class_embed\.": "its classes are those of COCO, ADE20K or similar"
}
# In our model audio is source 0, before the three scales.
_LEVELS = "decoder.level_embed.weight"
# Entries that only our model has, and why.
ONLY_OURS = {
    r"ska\.": "VCT has no SKA",
    r"mpqg\.(motion_gate|retrieved_proj\.)": "VCT has no motion prompt",
    r"brm\.": "VCT has no BRM",
    r"criterion\.": "computed from the config",
}
_NO_OBJECT_WEIGHT = 0.1


def from_vct(state: Mapping[str, Tensor]) -> Converted:
    """Convert a published state dict; every entry is used or reported.

    Args:
        state: names as published, e.g. ``sem_seg_head.predictor.class_embed.weight``.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """
    return _from_published(state, KNOWN_UNUSED, "published VCT checkpoint")


def from_combo(state: Mapping[str, Tensor]) -> Converted:
    """Convert COMBO-AVS's state dict: backbones, VGGish, pixel decoder and decoder fit ours; its fusion does not.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """
    converted = _from_published(state, KNOWN_UNUSED | _COMBO_UNUSED, "COMBO-AVS checkpoint")
    features, width = converted.state.get("mpqg.query_feat.weight"), converted.state.get("decoder.norm.weight")
    if features is not None and width is not None and features.shape[1] != len(width):
        del converted.state["mpqg.query_feat.weight"]
        reason = "half of a query: the other half came from audio (QUERIES_FUSE_TYPE dim)"
        converted.unused[f"{_PREDICTOR}query_feat.weight"] = reason
    return with_audio_first(converted.state, converted.unused)


def from_mask2former(state: Mapping[str, Tensor]) -> Converted:
    """Convert Mask2Former's state dict: backbone, pixel decoder and decoder, but not its classes.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """
    unused = KNOWN_UNUSED | _MASK2FORMER_UNUSED
    converted = _from_published(state, unused, "Mask2Former checkpoint")
    return with_audio_first(converted.state, converted.unused)


def to_vct(state: Mapping[str, Tensor]) -> tuple["OrderedDict[str, Tensor]", dict[str, str]]:
    """Convert our state dict to the published names.

    Returns:
        the published state, with the version numbers that stop Detectron2 from renaming the pixel decoder's
        entries, and our entries that VCT has no counterpart for, with the reason.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """
    networks, rest = {}, dict(state)
    for theirs, ours in _NETWORKS.items():
        inside = {name: rest.pop(name) for name in list(rest) if name.startswith(ours)}
        plain = network_to_published({name[len(ours) :]: value for name, value in inside.items()})
        networks |= {theirs + name: value for name, value in plain.items()}
    converted = convert(_join_projections(rest), _TABLE.to_theirs, ONLY_OURS, what="SKA-VCT checkpoint")
    published = OrderedDict(networks | converted.state)
    classes = published.get(f"{_PREDICTOR}class_embed.bias")
    if classes is not None:
        weight = torch.ones(len(classes))
        weight[-1] = _NO_OBJECT_WEIGHT
        published["criterion.empty_weight"] = weight
    versions = {"": 1, "sem_seg_head": 2, "sem_seg_head.predictor": 2}
    published._metadata = OrderedDict((name, {"version": version}) for name, version in versions.items())
    return published, converted.unused


def _from_published(state: Mapping[str, Tensor], unused: Mapping[str, str], what: str) -> Converted:
    networks, rest = {}, dict(state)
    dropped: dict[str, str] = {}
    for theirs, ours in _NETWORKS.items():
        inside = {name: rest.pop(name) for name in list(rest) if name.startswith(theirs)}
        if inside:
            network = network_from_published({name[len(theirs) :]: value for name, value in inside.items()})
            networks |= {ours + name: value for name, value in network.state.items()}
            dropped |= {theirs + name: reason for name, reason in network.unused.items()}
    converted = convert(rest, lambda name: _TABLE.to_ours(name) or _OLD_TABLE.to_ours(name), unused, what=what)
    return Converted(state=networks | _split_projections(converted.state), unused=dropped | converted.unused)


def with_audio_first(state: Mapping[str, Tensor], unused: Mapping[str, str] | None = None) -> Converted:
    """Mark three level embeddings as those of the three scales, which come after audio's."""
    levels = state.get(_LEVELS)
    rows = {_LEVELS: 1} if levels is not None and len(levels) == 3 else {}
    return Converted(state=dict(state), unused=dict(unused or {}), rows=rows)


def _split_projections(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split one matrix for query, key and value into three."""
    result = {}
    for name, tensor in state.items():
        if name.endswith(("in_proj_weight", "in_proj_bias")):
            stem, kind = name.rsplit("in_proj_", 1)
            for part, chunk in zip("qkv", tensor.chunk(3), strict=True):
                result[f"{stem}{part}_proj.{kind}"] = chunk.clone()
        else:
            result[name] = tensor
    return result


def _join_projections(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    result = {}
    for name, tensor in state.items():
        stem, mark, kind = name.rpartition(".attention.q_proj.")
        if mark:
            parts = [state[f"{stem}.attention.{part}_proj.{kind}"] for part in "qkv"]
            result[f"{stem}.attention.in_proj_{kind}"] = torch.cat(parts)
        elif ".attention.k_proj." not in name and ".attention.v_proj." not in name:
            result[name] = tensor
    return result
