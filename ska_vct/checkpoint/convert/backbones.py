"""Names of published backbones <-> those of the networks we build: Swin, PVTv2, ResNet.

Swin is Detectron2's network in ours, whose names are Microsoft's; PVTv2 and ResNet are timm's feature networks,
which write ``stages_0`` for ``stages.0``.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .names import Converted, NameTable, convert

_CLASSIFIER = "the pretraining classifier"
_LAST_NORM = "the norm before the pretraining classifier"

SWIN_UNUSED = {
    r"head\.": _CLASSIFIER,
    r"norm\.": _LAST_NORM,
    r"layers\.\d+\.blocks\.\d+\.attn_mask$": "computed from the input size",
}
_HF_UNUSED = {
    r"classifier\.": _CLASSIFIER,
    r"decoder\.": "the pretraining decoder",
    r"layernorm\.": _LAST_NORM,
    r"embeddings\.mask_token$": "used only in masked-image pretraining",
}
PVT_UNUSED = {r"head\.": _CLASSIFIER, r"norm\.": _LAST_NORM}
RESNET_UNUSED = {r"(stem\.)?fc(1000)?\.": _CLASSIFIER}

_SWIN_OWN = re.compile(r"(patch_embed|layers|norm\d)\.|absolute_pos_embed$")
_TIMM_DOWNSAMPLE = re.compile(r"layers\.(\d+)\.downsample\.")

# Hugging Face's Swin: on disk, and in memory since transformers 5.
_HF_BLOCK, _OUR_BLOCK = "encoder.layers.#.blocks.#.", "layers.#.blocks.#."
_HF_SWIN = NameTable(
    [
        ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
        ("embeddings.norm.", "patch_embed.norm."),
        ("encoder.layers.#.downsample.", "layers.#.downsample."),
        *(
            (_HF_BLOCK + theirs, _OUR_BLOCK + ours)
            for theirs, ours in (
                ("layernorm_before.", "norm1."),
                ("layernorm_after.", "norm2."),
                ("intermediate.dense.", "mlp.fc1."),
                ("output.dense.", "mlp.fc2."),
                ("mlp.", "mlp."),
                ("attention.output.dense.", "attn.proj."),
                ("attention.o_proj.", "attn.proj."),
                ("attention.self.relative_position_", "attn.relative_position_"),
                ("attention.relative_position_bias.relative_position_", "attn.relative_position_"),
                ("attention.self.query.", "attn.q."),
                ("attention.self.key.", "attn.k."),
                ("attention.self.value.", "attn.v."),
                ("attention.q_proj.", "attn.q."),
                ("attention.k_proj.", "attn.k."),
                ("attention.v_proj.", "attn.v."),
            )
        ),
        *((f"hidden_states_norms.stage{i + 1}.", f"norm{i}.") for i in range(4)),
    ]
)

# PVTv2 as its authors name it.
_PVT = NameTable(
    [
        ("patch_embed1.", "patch_embed."),
        *((f"patch_embed{i}.", f"stages_{i - 1}.downsample.") for i in (2, 3, 4)),
        *((f"block{i}.", f"stages_{i - 1}.blocks.") for i in (1, 2, 3, 4)),
        *((f"norm{i}.", f"stages_{i - 1}.norm.") for i in (1, 2, 3, 4)),
    ]
)

# ResNet as Detectron2 names it; torchvision's and timm's names are ours.
_D2_BLOCK = [("conv#.norm.", "bn#."), ("conv#.", "conv#."), ("shortcut.norm.", "downsample.1.")]
_D2_BLOCK += [("shortcut.", "downsample.0.")]
_D2_RESNET = NameTable(
    [
        ("stem.conv1.norm.", "bn1."),
        ("stem.conv1.", "conv1."),
        *((f"res{i + 1}.#.{theirs}", f"layer{i}.#.{ours}") for i in (1, 2, 3, 4) for theirs, ours in _D2_BLOCK),
    ]
)


# Blocks of each stage of EfficientNet-Lite0, which are those of EfficientNet-B0; efficientnet_pytorch numbers them
# through. Blocks of the first stage do not expand.
_LITE0_STAGES = (1, 2, 2, 3, 3, 4, 1)
_EFFICIENTNET_BLOCK = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3",
}  # fmt: skip
_EFFICIENTNET_FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_EFFICIENTNET_UNUSED = {r"_(conv_head|bn1|fc)\.": "it comes after the last feature map that is used"}


def is_swin(names: set[str]) -> bool:
    """Whether ``names`` are a Swin Transformer's, in Microsoft's, Detectron2's or timm's form."""
    return "layers.0.blocks.0.attn.relative_position_bias_table" in names


def is_hf_swin(names: set[str]) -> bool:
    """Whether ``names`` are those of transformers' Swin."""
    return "embeddings.patch_embeddings.projection.weight" in names and any(
        name.startswith("encoder.layers.0.blocks.0.") for name in names
    )


def is_pvt(names: set[str]) -> bool:
    """Whether ``names`` are those of PVTv2's authors."""
    return "patch_embed1.proj.weight" in names and "block1.0.attn.q.weight" in names


def is_timm_pvt(names: set[str]) -> bool:
    """Whether ``names`` are those of timm's PVTv2."""
    return bool(names & {"stages.0.blocks.0.attn.q.weight", "stages_0.blocks.0.attn.q.weight"})


def is_resnet(names: set[str]) -> bool:
    """Whether ``names`` are a ResNet's, in torchvision's and timm's form."""
    return "layer1.0.conv1.weight" in names


def is_d2_resnet(names: set[str]) -> bool:
    """Whether ``names`` are those of Detectron2's ResNet."""
    return "res2.0.conv1.weight" in names


def is_efficientnet(names: set[str]) -> bool:
    """Whether ``names`` are those of efficientnet_pytorch."""
    return {"_conv_stem.weight", "_blocks.0._depthwise_conv.weight"} <= names


def from_efficientnet(state: Mapping[str, Tensor]) -> Converted:
    """Convert EfficientNet-Lite0 as efficientnet_pytorch names it to timm's ``tf_efficientnet_lite0``.

    Raises:
        KeyError: listing the entries whose names are unknown, which those of other sizes are.
    """
    places = [(stage, block) for stage, count in enumerate(_LITE0_STAGES) for block in range(count)]

    def rename(name: str) -> str | None:
        match = re.fullmatch(r"_(conv_stem|bn0)\.(\w+)", name)
        if match:
            return f"{match[1].replace('bn0', 'bn1')}.{match[2]}"
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
        if not match or int(match[1]) >= len(places):
            return None
        stage, block = places[int(match[1])]
        part = (_EFFICIENTNET_BLOCK if stage else _EFFICIENTNET_FIRST).get(match[2])
        return part and f"blocks.{stage}.{block}.{part}.{match[3]}"

    return convert(state, rename, _EFFICIENTNET_UNUSED, what="EfficientNet-Lite0")


def from_swin(state: Mapping[str, Tensor]) -> Converted:
    """Convert Microsoft's, Detectron2's or timm's Swin.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """
    last = max((int(m[1]) for name in state if (m := re.match(r"layers\.(\d+)\.blocks\.", name))), default=0)
    # timm downsamples at the start of a stage, the published network at the end of the previous one.
    shift = 1 if any(name.startswith(f"layers.{last}.downsample.") for name in state) else 0

    def rename(name: str) -> str | None:
        match = _TIMM_DOWNSAMPLE.match(name)
        if match:
            return f"layers.{int(match[1]) - shift}.downsample.{name[match.end() :]}"
        return name if _SWIN_OWN.match(name) else None

    return convert(state, rename, SWIN_UNUSED, what="Swin Transformer (V1)")


def from_hf_swin(state: Mapping[str, Tensor]) -> Converted:
    """Convert transformers' ``SwinModel``, on its own or inside a task model.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """
    state = {name.removeprefix("swin."): value for name, value in state.items()}
    converted = convert(state, _HF_SWIN.to_ours, _HF_UNUSED, what="Swin Transformer of transformers")
    joined = {}
    for name, tensor in converted.state.items():
        stem, mark, kind = name.rpartition(".attn.q.")
        if mark:
            joined[f"{stem}.attn.qkv.{kind}"] = torch.cat(
                [converted.state[f"{stem}.attn.{p}.{kind}"] for p in "qkv"]
            )
        elif ".attn.k." not in name and ".attn.v." not in name:
            joined[name] = tensor
    return Converted(state=joined, unused=converted.unused)


def from_pvt(state: Mapping[str, Tensor]) -> Converted:
    """Convert PVTv2 as its authors name it.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """

    def rename(name: str) -> str | None:
        # timm has no module around the depthwise convolution.
        return _PVT.to_ours(name.replace("mlp.dwconv.dwconv.", "mlp.dwconv."))

    return convert(state, rename, PVT_UNUSED, what="PVTv2")


def from_timm(state: Mapping[str, Tensor], unused: Mapping[str, str]) -> Converted:
    """Convert a timm network: its feature network writes ``stages_0`` for ``stages.0``."""
    return convert(state, flatten_stages, unused, what="timm network")


def from_d2_resnet(state: Mapping[str, Tensor]) -> Converted:
    """Convert Detectron2's ResNet.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """
    return convert(state, _D2_RESNET.to_ours, RESNET_UNUSED, what="ResNet of Detectron2")


def flatten_stages(name: str) -> str:
    """Name in a timm network -> name in its feature network."""
    return re.sub(r"^(stages|layers|blocks)\.(\d+)\.", r"\1_\2.", name)


def network_from_published(state: Mapping[str, Tensor]) -> Converted:
    """Convert the backbone of a published segmentation model, detecting its kind.

    Raises:
        KeyError: listing the entries whose names are unknown.
    """
    names = set(state)
    if is_pvt(names):
        return from_pvt(state)
    if is_d2_resnet(names):
        return from_d2_resnet(state)
    if is_swin(names):
        return from_swin(state)
    return Converted(state=dict(state))


def network_to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our network's entries under the names that published segmentation models use.

    Raises:
        KeyError: naming an entry that the published network lacks.
    """
    if is_timm_pvt(set(state)):
        renamed = {name: _PVT.to_theirs(name) for name in state}
        renamed = {n: r and r.replace(".mlp.dwconv.", ".mlp.dwconv.dwconv.") for n, r in renamed.items()}
    elif is_resnet(set(state)):
        state = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
        renamed = {name: _D2_RESNET.to_theirs(name) for name in state}
    else:
        return dict(state)
    lost = [name for name, published in renamed.items() if published is None]
    if lost:
        raise KeyError(f"The published network has no entry for {', '.join(lost[:8])}.")
    return {renamed[name]: value for name, value in state.items()}
