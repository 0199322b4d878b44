"""A loss from outside the package: its parameters train and are saved, and its value is logged."""

import json

import pytest
import torch
from detectron2.modeling import build_model

from ska_vct.checkpoint.loading import load_into
from ska_vct.engine.setup import load_cfg
from ska_vct.engine.weights import load_options
from ska_vct.modeling import LOSS_REGISTRY
from ska_vct.utils.errors import InputError


def test_a_loss_of_ones_own(example, train, changed, tmp_path, small):
    text = example("Loss", tmp_path)
    config, first, last = train(text)
    assert changed(first, last, "losses.") == ["AreaLoss.area.bias", "AreaLoss.area.weight"]
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    assert any(0 < line.get("loss_area", 0) < 0.5 for line in lines)

    # Inference needs no loss: a model without it loads nothing of it, one with it starts it anew.
    cfg = load_cfg(config, small)
    model = build_model(cfg)
    bare = {name: value for name, value in last.items() if not name.startswith("losses.")}
    report = load_into(
        model, bare, path="bare.pth", key="MODEL.WEIGHTS", options=load_options(cfg, inference=True)
    )
    assert report.kept["losses.AreaLoss.area.weight"] == "only losses read them"


def test_names_that_clash_are_refused(tiny_cfg, make_clip):
    class Same(torch.nn.Module):
        def __init__(self, cfg):
            super().__init__()

        def forward(self, inputs):
            return {"loss_ce": inputs.outputs.audio_grid.sum()}

    LOSS_REGISTRY._do_register("Same", Same)
    try:
        tiny_cfg.MODEL.LOSSES = ["Same"]
        with pytest.raises(InputError, match="'Same' returns loss_ce, a name that is already in use"):
            build_model(tiny_cfg).train()([make_clip()])
        tiny_cfg.MODEL.LOSSES = ["Same", "Same"]
        with pytest.raises(InputError, match="lists a loss twice"):
            build_model(tiny_cfg)
    finally:
        del LOSS_REGISTRY._obj_map["Same"]


def test_a_function_is_refused_by_name(tiny_cfg):
    LOSS_REGISTRY._do_register("Plain", lambda cfg: lambda inputs: {})
    try:
        tiny_cfg.MODEL.LOSSES = ["Plain"]
        with pytest.raises(InputError, match="'Plain' is not a torch.nn.Module"):
            build_model(tiny_cfg)
    finally:
        del LOSS_REGISTRY._obj_map["Plain"]
