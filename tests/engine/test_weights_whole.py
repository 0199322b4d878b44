"""MODEL.WEIGHTS and the parts' files together: what the one brings, the others leave alone."""

import pytest
import torch
from detectron2.modeling import build_model

import ska_vct.modeling  # noqa: F401
from ska_vct.checkpoint.checkpointer import CheckpointError, StrictCheckpointer
from ska_vct.engine.weights import build_trained_model, load_options, load_part_weights


def saved(state: dict, path) -> str:
    torch.save({"model": state}, path)
    return str(path)


@pytest.fixture
def model_and_report(tiny_cfg, tmp_path):
    """A model that has loaded everything but the sound's convolutions."""
    source = build_model(tiny_cfg)
    state = {k: v for k, v in source.state_dict().items() if not k.startswith("audio_encoder.backbone.")}
    tiny_cfg.MODEL.WEIGHTS_SKIP = ["audio_encoder.backbone."]
    model = build_model(tiny_cfg)
    checkpointer = StrictCheckpointer(model, options=load_options(tiny_cfg, inference=False))
    checkpointer.load(saved(state, tmp_path / "m.pth"))
    return model, checkpointer.report


def test_a_part_that_the_whole_brought_needs_no_file(tiny_cfg, tmp_path, model_and_report):
    model, report = model_and_report
    vggish = {f"features.{k}": torch.rand(v.shape) for k, v in model.audio_encoder.backbone.state_dict().items()}
    tiny_cfg.MODEL.BACKBONE_WEIGHTS = "nowhere.pth"
    tiny_cfg.MODEL.AUDIO.WEIGHTS = saved(vggish, tmp_path / "v.pth")
    reports = load_part_weights(tiny_cfg, model, report)
    assert [r.title for r in reports] == ["VGGish of torchvggish"]
    assert torch.equal(model.audio_encoder.backbone[0].weight, vggish["features.0.weight"])
    with pytest.raises(FileNotFoundError, match="MODEL.BACKBONE_WEIGHTS.*nowhere.pth"):
        load_part_weights(tiny_cfg, model)


def test_a_frozen_part_that_nothing_brought_is_an_error(tiny_cfg, model_and_report):
    model, report = model_and_report
    load_part_weights(tiny_cfg, model, report)
    tiny_cfg.MODEL.AUDIO.FREEZE = True
    with pytest.raises(CheckpointError, match="MODEL.AUDIO.WEIGHTS"):
        load_part_weights(tiny_cfg, model, report)


def test_predictions_never_come_from_random_weights(tiny_cfg, tmp_path):
    """A checkpoint in VCT's names has no SKA; without SKA and BRM it is complete."""
    from ska_vct.checkpoint.convert.vct import to_vct

    tiny_cfg.MODEL.BACKBONE.NAME = "build_swin_backbone"
    swin = tiny_cfg.MODEL.SWIN
    swin.EMBED_DIM, swin.DEPTHS, swin.NUM_HEADS, swin.WINDOW_SIZE = 16, [1, 1, 2, 1], [1, 2, 2, 2], 4
    published, _ = to_vct(build_model(tiny_cfg).state_dict())
    tiny_cfg.MODEL.WEIGHTS = saved(published, tmp_path / "vct.pth")
    with pytest.raises(CheckpointError, match="MODEL.SKA.ENABLED False.*Training may start"):
        build_trained_model(tiny_cfg)
    # Training may: SKA and BRM keep their initial values, and the log says so.
    checkpointer = StrictCheckpointer(build_model(tiny_cfg), options=load_options(tiny_cfg, inference=False))
    checkpointer.load(tiny_cfg.MODEL.WEIGHTS)
    assert {name.split(".")[0] for name in checkpointer.report.kept} == {"ska", "mpqg", "brm"}
    # The boundary head is read in inference only where its image is wanted.
    tiny_cfg.MODEL.SKA.ENABLED = False
    build_trained_model(tiny_cfg)
    tiny_cfg.TEST.RETURN_EXTRAS = True
    with pytest.raises(CheckpointError, match="MODEL.BRM.ENABLED False"):
        build_trained_model(tiny_cfg)
