"""Parity of the networks: attention, pixel decoder, backbones, VGGish."""

from collections.abc import Iterable

import torch

from ska_vct.checkpoint.convert.vct import from_vct
from ska_vct.modeling.audio.vggish import VGGishBackbone
from ska_vct.modeling.backbones import SwinBackbone, TimmBackbone
from ska_vct.modeling.layers import MSDeformAttn, deform_attn

from .golden import Golden, Row, compare, compare_all, load_all
from .parts import below, build_pixel_decoder


def msdeform(golden: Golden) -> Iterable[Row]:
    """Deformable attention: the core, and the module with points, boxes and padding; values and gradients."""
    core = golden.under("core/in/")
    shapes = [tuple(shape) for shape in core["spatial_shapes"].tolist()]
    names = ("value", "sampling_locations", "attention_weights")
    value, locations, weights = (core[name].requires_grad_() for name in names)
    output = deform_attn(value, shapes, locations, weights)
    yield compare("core/out/output", output, golden["core/out/output"])
    (output * core["grad_output"]).sum().backward()
    for name, tensor in zip(names, (value, locations, weights), strict=True):
        yield compare(f"core/grad/{name}", tensor.grad, golden[f"core/grad/{name}"])
    # The excerpt in tests/data/goldens holds the core alone.
    if golden.names("module/"):
        yield from _msdeform_module(golden)


def _msdeform_module(golden: Golden) -> Iterable[Row]:
    cfg = golden.cfg
    module = MSDeformAttn(
        dim=cfg["d_model"], num_levels=cfg["n_levels"], num_heads=cfg["n_heads"], num_points=cfg["n_points"]
    )
    name = "module/init/sampling_offsets.bias"
    yield compare(name, module.sampling_offsets.bias, golden[name])
    load_all(module, golden.state("module/state/"))
    inputs = golden.under("module/in/")
    shapes = [tuple(shape) for shape in inputs["spatial_shapes"].tolist()]
    cases = {
        "ref2": (inputs["reference_points_2"], None),
        "ref4": (inputs["reference_points_4"], None),
        "ref2_padmask": (inputs["reference_points_2"], inputs["padding_mask"]),
    }
    for case, (points, padding) in cases.items():
        module.zero_grad()
        query, memory = (inputs[name].clone().requires_grad_() for name in ("query", "input_flatten"))
        output = module(query, points, memory, shapes, padding)
        yield compare(f"module/out/{case}", output, golden[f"module/out/{case}"])
        (output * inputs["grad_output"]).sum().backward()
        grads = {"query": query.grad, "input_flatten": memory.grad}
        grads |= {f"param/{name}": parameter.grad for name, parameter in module.named_parameters()}
        yield from compare_all(grads, golden, f"module/grad/{case}/")


def pixel_decoder(golden: Golden) -> Iterable[Row]:
    """Mask features and the three encoder outputs."""
    published = {f"sem_seg_head.pixel_decoder.{name}": value for name, value in golden.state().items()}
    state = below(from_vct(published).state, "pixel_decoder.")
    features = golden.under("in/")
    channels = {name: feature.shape[1] for name, feature in features.items()}
    decoder = build_pixel_decoder(state, heads=golden.cfg["transformer_nheads"], channels=channels)
    load_all(decoder.eval(), state)
    with torch.no_grad():
        mask_features, scales = decoder(features)
    outputs = {"mask_features": mask_features, "transformer_encoder_features": scales[0]}
    outputs |= {f"multi_scale_{i}": scale for i, scale in enumerate(scales)}
    yield from compare_all(outputs, golden, "out/")


def swin(golden: Golden) -> Iterable[Row]:
    """Swin at a size that neither patches nor windows divide."""
    cfg = golden.cfg
    network = SwinBackbone(
        embed_dim=cfg["embed_dim"],
        depths=cfg["depths"],
        num_heads=cfg["num_heads"],
        window_size=cfg["window"],
        mlp_ratio=cfg["mlp_ratio"],
        qkv_bias=cfg["qkv_bias"],
        patch_size=cfg["patch_size"],
        ape=cfg["ape"],
        patch_norm=cfg["patch_norm"],
        drop_path_rate=cfg["drop_path_rate"],
    ).eval()
    published = {f"backbone.{name}": value for name, value in golden.state().items()}
    load_all(network, below(from_vct(published).state, "backbone."))
    with torch.no_grad():
        yield from compare_all(network(golden["in/x"]), golden, "out/")


def pvtv2(golden: Golden) -> Iterable[Row]:
    """PVTv2 with its authors' names."""
    cfg = golden.cfg
    if cfg["norm_eps"] != 1e-6:
        raise ValueError(f"{golden.path.name}: timm's PVTv2 has norm eps 1e-6, the file wants {cfg['norm_eps']}.")
    network = TimmBackbone(
        name="pvt_v2_b5",
        embed_dims=cfg["embed_dims"],
        num_heads=cfg["num_heads"],
        mlp_ratios=cfg["mlp_ratios"],
        depths=cfg["depths"],
        sr_ratios=cfg["sr_ratios"],
        qkv_bias=cfg["qkv_bias"],
        linear=cfg["linear"],
    ).eval()
    published = {f"backbone.{name}": value for name, value in golden.state().items()}
    load_all(network, below(from_vct(published).state, "backbone."))
    with torch.no_grad():
        yield from compare_all(network(golden["in/x"]), golden, "out/")


def vggish(golden: Golden) -> Iterable[Row]:
    """Convolution features, and waveform -> log-mel."""
    from ska_vct.data.audio import log_mel as audio

    state = golden.state("state/features.")
    widths = [len(state[f"{i}.bias"]) for i in (0, 3, 6, 8, 11, 13)]
    network = VGGishBackbone(channels=widths).eval()
    load_all(network, state)
    with torch.no_grad():
        yield compare("out/features", network(golden["in/log_mel"]), golden["out/features"])
    for name in golden.names("in/wav_"):
        case = name.removeprefix("in/wav_")
        rate = int(golden[f"in/sr_{case}"])
        patches = audio.waveform_to_log_mel(audio.to_mono(golden[name].numpy()), rate)
        wanted = f"out/log_mel_examples_{case}"
        yield compare(wanted, patches, golden[wanted])
