"""Formats of published checkpoints, recognised by the names of their entries."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..files import CheckpointError
from . import backbones, vct, yamnet
from .names import Converted, above, convert

# Prefixes of the model's parts in its state dict.
BACKBONE = "backbone.network."
PRE_MASK = "pre_mask_encoder.backbone.network."
AUDIO = "audio_encoder.backbone."
OUR_PARTS = (
    *(f"{name}." for name in ("backbone", "pre_mask_encoder", "audio_encoder", "pixel_decoder", "ska", "mpqg")),
    *(f"{name}." for name in ("decoder", "brm", "prototype_alignment", "criterion", "losses")),
)
_MOTION = ("ska.", "mpqg.motion_gate", "mpqg.retrieved_proj.", "brm.")
_QUERIES = ("pre_proj", "query_mixer", "prototype", "grouping")
_AUDIO_QUERIES = (*(f"mpqg.{name}" for name in _QUERIES), "prototype_alignment.", *_MOTION)
# Layers of timm networks after the last feature map.
_TAIL = re.compile(r"(head|fc|classifier|norm|conv_head|bn2)\.")
_BEHIND = "it comes after the last feature map that is used"
_VGGISH_UNUSED = {r"(embeddings|pproc)\.": "VGGish's fully connected layers and post-processing are never run"}


@dataclass(frozen=True)
class Format:
    """A checkpoint format.

    Attributes:
        name: short name.
        title: what it is, for messages.
        looks_like: whether a set of names has this format; all but ``ours`` are mutually exclusive.
        convert: their state -> ours.
        lacks: prefixes of our names that files of this format never hold; they keep their initial values.
    """

    name: str
    title: str
    looks_like: Callable[[set[str]], bool]
    convert: Callable[[Mapping[str, Tensor]], Converted]
    lacks: tuple[str, ...] = ()


def identify(state: Mapping[str, Tensor], *, path: str, own: Collection[str] = ()) -> tuple[Format, Converted]:
    """Detect the format of ``state`` and convert it.

    Args:
        state: names as in the file.
        path: of the file, for the error.
        own: names of the model; a file that shares any of them is in our format.

    Raises:
        CheckpointError: the format is unknown, or the file has entries that its format does not.
    """
    if set(own) & set(state):
        return OURS, OURS.convert(state)
    stripped = _strip(state)
    names = set(stripped)
    if any("cpb_mlp" in name for name in names):
        raise CheckpointError(
            f"Checkpoint '{path}' is a Swin V2, whose attention is not supported; use a Swin (V1)."
        )
    kind = next((kind for kind in FORMATS if kind.looks_like(names)), None)
    if kind is None:
        converted = _as_network(stripped, own)
        if converted is not None:
            return _TIMM, converted
        raise CheckpointError(_unknown(path, names))
    try:
        return kind, kind.convert(stripped)
    except KeyError as error:
        raise CheckpointError(f"Checkpoint '{path}' looks like a {kind.title}, but {error.args[0]}") from None


def _strip(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Strip the prefix of a wrapper from every entry, e.g. of a detector that holds only a backbone."""
    for prefix in ("model.", "backbone.", "encoder."):
        inner = {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}
        if len(inner) == len(state) and any(kind.looks_like(set(inner)) for kind in FORMATS[1:]):
            return inner
    return state


def _as_network(state: Mapping[str, Tensor], own: Collection[str]) -> Converted | None:
    """Any other timm network, recognised by the names of the model's own backbone."""
    flat = {name: BACKBONE + name if BACKBONE + name in own else BACKBONE + _flatten(name) for name in state}
    if not any(name in own for name in flat.values()):
        return None
    unused = {name: _BEHIND for name in state if flat[name] not in own and _TAIL.match(name)}
    return Converted(
        state={flat[name]: value for name, value in state.items() if name not in unused}, unused=unused
    )


def _flatten(name: str) -> str:
    """timm's feature networks write ``stem_0`` for ``stem.0``, for any list at the top level."""
    return re.sub(r"^(\w+)\.(\d+)\.", r"\1_\2.", name)


def _unknown(path: str, names: set[str]) -> str:
    if names & {"pca_eigen_vectors", "pca_means"}:
        return (
            f"Checkpoint '{path}' holds VGGish's post-processing (PCA), which is not used; MODEL.AUDIO.WEIGHTS "
            "expects the network, vggish-10086976.pth."
        )
    shown = ", ".join(sorted(names)[:4])
    titles = ", ".join(kind.title for kind in FORMATS)
    return (
        f"Checkpoint '{path}' has an unknown format (its entries are {shown}, ...); supported formats: {titles}."
    )


def _network(convert_network: Callable[[Mapping[str, Tensor]], Converted]):
    def converted(state: Mapping[str, Tensor]) -> Converted:
        network = convert_network(state)
        return Converted(state=above(network.state, BACKBONE), unused=network.unused)

    return converted


def _from_vggish(state: Mapping[str, Tensor]) -> Converted:
    def rename(name: str) -> str | None:
        return AUDIO + name.removeprefix("features.") if name.startswith("features.") else None

    return convert(state, rename, _VGGISH_UNUSED, what="VGGish checkpoint")


def _is_published(names: set[str]) -> bool:
    return any(name.startswith("sem_seg_head.") for name in names)


def _is_vct(names: set[str]) -> bool:
    return any(name.startswith("sem_seg_head.predictor.visual_query_block.") for name in names)


def _is_combo(names: set[str]) -> bool:
    starts = ("audio_backbone.", "fusion_module.", "sem_seg_head.fusion_module.")
    return _is_published(names) and not _is_vct(names) and any(name.startswith(starts) for name in names)


def _is_mask2former(names: set[str]) -> bool:
    return _is_published(names) and not _is_vct(names) and not _is_combo(names)


def _is_ours(names: set[str]) -> bool:
    starts = (BACKBONE, PRE_MASK, AUDIO, "pixel_decoder.", "mpqg.", "decoder.layers.0.cross_attention.")
    return any(name.startswith(starts) for name in names) and all(name.startswith(OUR_PARTS) for name in names)


def _is_vggish(names: set[str]) -> bool:
    return {"features.0.weight", "features.13.weight"} <= names


def _all_but_backbone() -> tuple[str, ...]:
    return tuple(part for part in OUR_PARTS if part != "backbone.")


OURS = Format("ska_vct", "SKA-VCT checkpoint", _is_ours, vct.with_audio_first)
_TIMM = Format("timm", "timm network", lambda names: False, lambda state: Converted({}), _all_but_backbone())
FORMATS = (
    OURS,
    Format("vct", "VCT_AVS checkpoint", _is_vct, vct.from_vct, _MOTION),
    Format(
        "combo",
        "COMBO-AVS checkpoint",
        _is_combo,
        vct.from_combo,
        ("audio_encoder.mlp.", "mpqg.query_feat") + _AUDIO_QUERIES,
    ),
    Format(
        "mask2former",
        "Mask2Former checkpoint",
        _is_mask2former,
        vct.from_mask2former,
        ("audio_encoder.", "pre_mask_encoder.", "decoder.class_embed.", *_AUDIO_QUERIES),
    ),
    Format(
        "swin",
        "Swin Transformer (Microsoft's, Detectron2's or timm's)",
        backbones.is_swin,
        _network(backbones.from_swin),
        _all_but_backbone(),
    ),
    Format(
        "hf_swin",
        "Swin Transformer of Hugging Face's transformers",
        lambda names: backbones.is_hf_swin({name.removeprefix("swin.") for name in names}),
        _network(backbones.from_hf_swin),
        _all_but_backbone(),
    ),
    Format(
        "pvt", "PVTv2 of the original authors", backbones.is_pvt, _network(backbones.from_pvt), _all_but_backbone()
    ),
    Format(
        "timm_pvt",
        "PVTv2 of timm",
        backbones.is_timm_pvt,
        _network(lambda state: backbones.from_timm(state, backbones.PVT_UNUSED)),
        _all_but_backbone(),
    ),
    Format(
        "resnet",
        "ResNet of torchvision or timm",
        backbones.is_resnet,
        _network(lambda state: backbones.from_timm(state, backbones.RESNET_UNUSED)),
        _all_but_backbone(),
    ),
    Format(
        "d2_resnet",
        "ResNet of Detectron2",
        backbones.is_d2_resnet,
        _network(backbones.from_d2_resnet),
        _all_but_backbone(),
    ),
    Format(
        "efficientnet",
        "EfficientNet of efficientnet_pytorch",
        backbones.is_efficientnet,
        _network(backbones.from_efficientnet),
        _all_but_backbone(),
    ),
    Format(
        "yamnet",
        "YAMNet of TensorFlow",
        yamnet.is_yamnet,
        lambda state: yamnet.from_yamnet(state, prefix=AUDIO),
        tuple(p for p in OUR_PARTS if p != "audio_encoder.") + ("audio_encoder.mlp.",),
    ),
    Format(
        "vggish",
        "VGGish of torchvggish",
        _is_vggish,
        _from_vggish,
        tuple(p for p in OUR_PARTS if p != "audio_encoder.") + ("audio_encoder.mlp.",),
    ),
)
