"""Backbones in every published layout give the published network's features.

The states come from the programs themselves: detectron2 (whose Swin has Microsoft's names), timm, torchvision and,
where it is installed, transformers. Sizes are such that every stage is larger than a window: timm and transformers
shift no windows in smaller ones, the segmentation networks do.
"""

import pickle

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_resnet_backbone
from detectron2.modeling.backbone.swin import SwinTransformer
from torch import nn

from ska_vct.checkpoint.convert.formats import BACKBONE
from ska_vct.checkpoint.convert.names import below
from ska_vct.checkpoint.convert.vct import from_vct
from ska_vct.checkpoint.files import CheckpointError, load_state_dict
from ska_vct.checkpoint.loading import load_into
from ska_vct.modeling.backbones import SwinBackbone, TimmBackbone
from tests.checkpoint.conftest import Holder
from tests.parity.golden import Golden

SWIN = {"embed_dim": 16, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8], "window_size": 4}
SIDE = 256
# Relative to the largest value: another order of the same float32 operations.
CLOSE = 1e-5


def swin_holder() -> Holder:
    return Holder(SwinBackbone(**SWIN)).eval()


def check(model: Holder, expected: list, side: int = SIDE) -> None:
    with torch.no_grad():
        found = model.backbone(pictures(side))
    for feature, wanted in zip(found.values(), expected, strict=True):
        difference = (feature - wanted).abs().max() / wanted.abs().max()
        assert feature.shape == wanted.shape and difference < CLOSE, difference


def pictures(side: int = SIDE) -> torch.Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(3))


def load(model: Holder, path) -> "object":
    return load_into(model, load_state_dict(path), path=str(path), part=BACKBONE)


def d2_swin(randomize) -> SwinTransformer:
    return randomize(SwinTransformer(**SWIN).eval())


def as_microsoft_saves(network: SwinTransformer) -> dict:
    state = {k: v for k, v in network.state_dict().items() if not k.startswith("norm")}
    extra = {"head.weight": torch.rand(7, 128), "head.bias": torch.rand(7), "norm.weight": torch.rand(128)}
    return state | extra | {"norm.bias": torch.rand(128), "layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16)}


def normed(features: list) -> list:
    """What a stage's norm that is not in the file does: its initial values."""
    return [F.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2) for x in features]


def test_swin_as_microsoft_saves_it(tmp_path, randomize):
    network = d2_swin(randomize)
    torch.save({"model": as_microsoft_saves(network)}, tmp_path / "s.pth")
    model = swin_holder()
    report = load(model, tmp_path / "s.pth")
    for i in range(4):
        network.get_submodule(f"norm{i}").reset_parameters()
    check(model, list(network(pictures()).values()))
    assert len(report.unused) == 5 and sum(name.startswith(f"{BACKBONE}norm") for name in report.kept) == 8


@pytest.mark.parametrize("arrays", [True, False])
def test_swin_as_converted_for_detectron2(tmp_path, randomize, arrays):
    network = d2_swin(randomize)
    state = as_microsoft_saves(network) | {k: v for k, v in network.state_dict().items() if k.startswith("norm")}
    state = {key: value.numpy() if arrays else value for key, value in state.items()}
    content = {"model": state, "__author__": "third_party", "matching_heuristics": True}
    (tmp_path / "s.pkl").write_bytes(pickle.dumps(content))
    model = swin_holder()
    load(model, tmp_path / "s.pkl")
    check(model, list(network(pictures()).values()))


def test_swin_as_timm_saves_it(tmp_path, randomize):
    network = timm.create_model(
        "swin_tiny_patch4_window7_224",
        img_size=SIDE,
        embed_dim=16,
        depths=(2, 2, 2, 2),
        num_heads=(1, 2, 4, 8),
        window_size=4,
    )
    randomize(network).eval()
    torch.save(network.state_dict(), tmp_path / "t.pth")
    model = swin_holder()
    load(model, tmp_path / "t.pth")
    # timm hands out stages before the shrinking of the next, without norms.
    stages = network.forward_intermediates(pictures(), intermediates_only=True)
    check(model, normed(stages))


def test_swin_as_transformers_saves_it(tmp_path, randomize):
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        image_size=SIDE,
        embed_dim=16,
        depths=[2, 2, 2, 2],
        num_heads=[1, 2, 4, 8],
        window_size=4,
        layer_norm_eps=1e-5,
        out_features=[f"stage{i}" for i in (1, 2, 3, 4)],
    )
    network = randomize(transformers.SwinBackbone(config)).eval()
    network.save_pretrained(tmp_path)
    in_memory = tmp_path / "m.pth"
    torch.save(network.state_dict(), in_memory)
    for path in (tmp_path / "model.safetensors", in_memory):
        model = swin_holder()
        load(model, path)
        with torch.no_grad():
            check(model, list(network(pictures()).feature_maps))


def test_transformers_names_written_by_hand(randomize):
    """The layout of the files on the hub, where transformers is not installed to write one."""
    own = d2_swin(randomize).state_dict()
    names = {"patch_embed.proj": "embeddings.patch_embeddings.projection", "patch_embed.norm": "embeddings.norm"}
    block = {"norm1": "layernorm_before", "norm2": "layernorm_after", "mlp.fc1": "intermediate.dense"}
    block |= {"mlp.fc2": "output.dense", "attn.proj": "attention.output.dense"}
    theirs = {"layernorm.weight": torch.rand(128), "layernorm.bias": torch.rand(128)}
    for name, value in own.items():
        stem, kind = name.rsplit(".", 1)
        place, _, inner = stem.partition(".blocks.")
        if stem in names:
            theirs[f"swin.{names[stem]}.{kind}"] = value
        elif stem.startswith("norm"):
            theirs[f"hidden_states_norms.stage{int(stem[4]) + 1}.{kind}"] = value
        elif ".downsample" in stem:
            theirs[f"swin.encoder.{name}"] = value
        elif stem.endswith("attn.qkv"):
            prefix = f"swin.encoder.{place}.blocks.{inner.split('.')[0]}.attention.self"
            parts = value.chunk(3)
            theirs |= {f"{prefix}.{p}.{kind}": v for p, v in zip(("query", "key", "value"), parts, strict=True)}
        elif kind.startswith("relative_position"):
            theirs[f"swin.encoder.{place}.blocks.{inner.split('.')[0]}.attention.self.{kind}"] = value
        else:
            number, part = inner.split(".", 1)
            theirs[f"swin.encoder.{place}.blocks.{number}.{block[part]}.{kind}"] = value
    model = swin_holder()
    load_into(model, theirs, path="hub", part=BACKBONE)
    assert all(torch.equal(value, own[key]) for key, value in model.backbone.network.state_dict().items())


def test_swin_v2_is_refused(tmp_path):
    network = timm.create_model("swinv2_cr_tiny_224", img_size=64, window_size=4, depths=(1, 1, 1, 1))
    v2 = timm.create_model("swinv2_tiny_window8_256", img_size=64, window_size=4, depths=(1, 1, 1, 1))
    for state in (network.state_dict(), v2.state_dict()):
        with pytest.raises(CheckpointError):
            load_into(swin_holder(), state, path="v2.pth", part=BACKBONE)
    with pytest.raises(CheckpointError, match="Swin V2"):
        load_into(swin_holder(), v2.state_dict(), path="v2.pth", part=BACKBONE)


def test_pvt_as_its_authors_save_it(goldens, tmp_path):
    golden = Golden(goldens / "pvtv2.npz")
    cfg = golden.cfg
    keys = ("embed_dims", "num_heads", "mlp_ratios", "depths", "sr_ratios", "qkv_bias", "linear")
    model = Holder(TimmBackbone(name="pvt_v2_b5", **{key: cfg[key] for key in keys})).eval()
    state = golden.state() | {"head.weight": torch.rand(5, 64), "head.bias": torch.rand(5)}
    torch.save(state, tmp_path / "pvt.pth")
    load(model, tmp_path / "pvt.pth")
    with torch.no_grad():
        for name, feature in model.backbone(golden["in/x"]).items():
            torch.testing.assert_close(feature, golden[f"out/{name}"], rtol=1e-4, atol=2e-5)


def test_pvt_as_timm_saves_it(tmp_path, randomize):
    network = randomize(timm.create_model("pvt_v2_b0", num_classes=5).eval())
    torch.save(network.state_dict(), tmp_path / "p.pth")
    model = Holder(TimmBackbone(name="pvt_v2_b0")).eval()
    load(model, tmp_path / "p.pth")
    check(model, network.forward_intermediates(pictures(64), intermediates_only=True), side=64)


def resnet_features(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
    stages = []
    for i in (1, 2, 3, 4):
        x = network.get_submodule(f"layer{i}")(x)
        stages.append(x)
    return stages


def test_resnet_as_torchvision_saves_it(tmp_path, randomize):
    network = randomize(torchvision.models.resnet50(num_classes=5).eval())
    torch.save(network.state_dict(), tmp_path / "r.pth")
    model = Holder(TimmBackbone(name="resnet50")).eval()
    load(model, tmp_path / "r.pth")
    check(model, [x.detach() for x in resnet_features(network, pictures(64))], side=64)


def test_resnet_as_detectron2_saves_it(tmp_path, randomize):
    cfg = get_cfg()
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = False
    network = randomize(build_resnet_backbone(cfg, ShapeSpec(channels=3)).eval())
    torch.save({f"backbone.{key}": value for key, value in network.state_dict().items()}, tmp_path / "r.pth")
    model = Holder(TimmBackbone(name="resnet50")).eval()
    load(model, tmp_path / "r.pth")
    with torch.no_grad():
        check(model, list(network(pictures(64)).values()), side=64)


def test_any_other_timm_network(tmp_path, randomize):
    kwargs = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32)}
    network = randomize(timm.create_model("convnext_tiny", num_classes=5, **kwargs).eval())
    torch.save(network.state_dict(), tmp_path / "c.pth")
    model = Holder(TimmBackbone(name="convnext_tiny", **kwargs)).eval()
    load(model, tmp_path / "c.pth")
    check(model, network.forward_intermediates(pictures(64), intermediates_only=True), side=64)


@pytest.mark.parametrize("name", ["swin.npz", "pvtv2.npz"])
def test_published_names_come_back_exactly(goldens, name):
    from ska_vct.checkpoint.convert.vct import to_vct

    published = {f"backbone.{key}": value for key, value in Golden(goldens / name).state().items()}
    again, left_out = to_vct(from_vct(published).state)
    assert again.keys() == published.keys() and not left_out
    assert all(torch.equal(again[key], value) for key, value in published.items())


def test_detectron2_resnet_comes_back_exactly(randomize):
    from ska_vct.checkpoint.convert.vct import to_vct

    cfg = get_cfg()
    network = randomize(build_resnet_backbone(cfg, ShapeSpec(channels=3)))
    published = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    again, _ = to_vct(from_vct(published).state)
    assert again.keys() == published.keys()
    assert below(again, "backbone.").keys() == network.state_dict().keys()
