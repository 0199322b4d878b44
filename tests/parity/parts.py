"""Our modules at the size a golden file was made with."""

from collections.abc import Mapping

from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from ska_vct.modeling.audio.vggish import VGGishEncoder
from ska_vct.modeling.losses.prototypes import PrototypeAlignment
from ska_vct.modeling.pixel_decoder import MSDeformAttnPixelDecoder
from ska_vct.modeling.queries.mpqg import MPQG
from ska_vct.modeling.transformer_decoder import MaskedTransformerDecoder

# The published reading of prototypes has four heads whatever the decoder has.
PROTOTYPE_HEADS = 4
FEATURES = ("res2", "res3", "res4", "res5")


def build_pixel_decoder(state: Mapping[str, Tensor], *, heads: int, channels: Mapping[str, int]) -> nn.Module:
    """Pixel decoder whose sizes are read off ``state`` (our names, without prefix)."""
    layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("layers."))
    levels = len(state["level_embed"])
    offsets = len(state["layers.0.self_attn.sampling_offsets.bias"])
    return MSDeformAttnPixelDecoder(
        input_shape={name: ShapeSpec(channels=channels[name], stride=4 << i) for i, name in enumerate(FEATURES)},
        in_features=list(FEATURES),
        dim=state["level_embed"].shape[1],
        mask_dim=len(state["mask_features.bias"]),
        num_layers=layers,
        num_heads=heads,
        num_points=offsets // (heads * levels * 2),
        feedforward_dim=len(state["layers.0.linear1.bias"]),
        dropout=0.0,
    )


def below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Entries of ``state`` below ``prefix``, by the rest of their name."""
    return {name[len(prefix) :]: value for name, value in state.items() if name.startswith(prefix)}


def build_head_parts(
    state: Mapping[str, Tensor], cfg: Mapping, channels: Mapping[str, int]
) -> dict[str, nn.Module]:
    """Everything behind the backbones, sizes read off ``state`` (our names) and ``cfg``."""
    heads, dim, queries = cfg["nheads"], cfg["hidden"], cfg["queries"]
    # Images are padded to multiples of 32 before the mask features, a quarter of their size, are made.
    grid = [-(-side // 32) * 8 for side in cfg["image_hw"]]
    prototypes = state.get("mpqg.prototypes.weight")
    audio_dims = [len(state[f"audio_encoder.mlp.{i}.bias"]) for i in (0, 2)]
    mask_dim = len(state["pixel_decoder.mask_features.bias"])
    parts: dict[str, nn.Module] = {
        "audio_encoder": VGGishEncoder(
            channels=[64, 128, 256, 256, 512, 512], mlp_dims=audio_dims, dim=dim, freeze=True
        ),
        "pixel_decoder": build_pixel_decoder(below(state, "pixel_decoder."), heads=heads, channels=channels),
        "mpqg": MPQG(
            mask_dim=mask_dim,
            dim=dim,
            num_queries=queries,
            mixer_grid=grid,
            pre_dim=len(state["mpqg.pre_proj.0.bias"]),
            mixer_dim=len(state["mpqg.query_mixer.0.bias"]),
            num_prototypes=0 if prototypes is None else len(prototypes),
            num_heads=PROTOTYPE_HEADS,
            tau=1.0,
            motion=False,
            gate_init=1.0,
        ),
        "decoder": MaskedTransformerDecoder(
            dim=dim,
            mask_dim=mask_dim,
            num_classes=cfg["num_classes"],
            num_queries=queries,
            num_layers=cfg["dec_layers"] - 1,  # the published count includes the prediction before the first
            num_heads=heads,
            feedforward_dim=cfg["dim_ff"],
        ),
    }
    if prototypes is not None:
        parts["prototype_alignment"] = PrototypeAlignment(dim=dim)
    return parts
