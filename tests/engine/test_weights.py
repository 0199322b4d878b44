"""Published files of single parts arrive in those parts, entry by entry, or are refused."""

import pytest
import timm
import torch
from detectron2.modeling import build_model

import ska_vct.modeling  # noqa: F401
from ska_vct.checkpoint.checkpointer import CheckpointError
from ska_vct.engine.weights import load_part_weights


def random_like(state: dict) -> dict:
    return {key: torch.rand(value.shape) if value.is_floating_point() else value for key, value in state.items()}


def test_vggish_as_published(tiny_cfg, tmp_path):
    model = build_model(tiny_cfg)
    own = model.audio_encoder.backbone.state_dict()
    published = random_like({f"features.{key}": value for key, value in own.items()})
    extra = {"embeddings.0.weight": torch.rand(4, 4), "pproc.pca_means": torch.rand(4, 1)}
    torch.save(published | extra, tmp_path / "vggish.pth")
    tiny_cfg.MODEL.AUDIO.WEIGHTS = str(tmp_path / "vggish.pth")
    load_part_weights(tiny_cfg, model)
    for key, value in model.audio_encoder.backbone.state_dict().items():
        assert torch.equal(value, published[f"features.{key}"]), key


def test_timm_network_with_its_classifier(tiny_cfg, tmp_path):
    node = tiny_cfg.MODEL.TIMM
    full = timm.create_model(node.NAME, **{key.lower(): value for key, value in node.KWARGS.items()}).eval()
    torch.save(full.state_dict(), tmp_path / "r.pth")
    tiny_cfg.MODEL.BACKBONE_WEIGHTS = str(tmp_path / "r.pth")
    model = build_model(tiny_cfg).eval()
    load_part_weights(tiny_cfg, model)
    images = torch.rand(1, 3, 64, 64)
    # The same weights; channels-last kernels round differently.
    torch.testing.assert_close(model.backbone(images)["res5"], full.forward_features(images), rtol=1e-4, atol=1e-5)


def test_original_pvt_names(tiny_cfg, tmp_path):
    tiny_cfg.MODEL.TIMM.NAME, tiny_cfg.MODEL.TIMM.KWARGS = "pvt_v2_b0", type(tiny_cfg)()
    full = timm.create_model("pvt_v2_b0").eval()
    torch.save({original_pvt(key): value for key, value in full.state_dict().items()}, tmp_path / "p.pth")
    tiny_cfg.MODEL.BACKBONE_WEIGHTS = str(tmp_path / "p.pth")
    model = build_model(tiny_cfg).eval()
    load_part_weights(tiny_cfg, model)
    images = torch.rand(1, 3, 64, 64)
    # The same weights; channels-last kernels round differently.
    torch.testing.assert_close(model.backbone(images)["res5"], full.forward_features(images), rtol=1e-4, atol=1e-5)


def original_pvt(key: str) -> str:
    """timm's name -> the name in the authors' files, e.g. stages.1.blocks.0.mlp.dwconv.weight."""
    parts = key.split(".")
    if parts[0] == "patch_embed":
        return ".".join(["patch_embed1", *parts[1:]])
    if parts[0] != "stages":
        return key
    stage = int(parts[1]) + 1
    if parts[2] == "downsample":
        return ".".join([f"patch_embed{stage}", *parts[3:]])
    if parts[2] == "norm":
        return ".".join([f"norm{stage}", *parts[3:]])
    return ".".join([f"block{stage}", *parts[3:]]).replace(".dwconv.", ".dwconv.dwconv.")


def test_swin_without_stage_norms_keeps_theirs(tiny_cfg, tmp_path):
    tiny_cfg.MODEL.BACKBONE.NAME = "build_swin_backbone"
    swin = tiny_cfg.MODEL.SWIN
    swin.EMBED_DIM, swin.DEPTHS, swin.NUM_HEADS, swin.WINDOW_SIZE = 16, [1, 1, 2, 1], [1, 2, 2, 2], 4
    model = build_model(tiny_cfg)
    own = model.backbone.network.state_dict()
    norms = {f"norm{i}.{kind}" for i in range(4) for kind in ("weight", "bias")}
    published = random_like({key: value for key, value in own.items() if key not in norms})
    extra = {
        "head.weight": torch.rand(10, 128),
        "norm.weight": torch.rand(128),
        "layers.0.blocks.1.attn_mask": own["norm0.bias"],
    }
    torch.save({"model": published | extra}, tmp_path / "s.pth")
    tiny_cfg.MODEL.BACKBONE_WEIGHTS = str(tmp_path / "s.pth")
    load_part_weights(tiny_cfg, model)
    after = model.backbone.network.state_dict()
    assert all(torch.equal(after[key], published[key]) for key in published)
    assert all(torch.equal(after[key], own[key]) for key in norms)


def test_the_wrong_file_is_refused_with_its_config_key(tiny_cfg, tmp_path):
    torch.save({"conv.weight": torch.rand(3)}, tmp_path / "x.pth")
    tiny_cfg.MODEL.AUDIO.WEIGHTS = str(tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match="MODEL.AUDIO.WEIGHTS.*unknown format.*conv.weight"):
        load_part_weights(tiny_cfg, build_model(tiny_cfg))
