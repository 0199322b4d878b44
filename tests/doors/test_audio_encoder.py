"""An audio encoder from outside the package: trained, saved, at the backbones' learning rate, exported."""

import torch
from detectron2.modeling import build_model

from ska_vct.deploy.network import InferenceNetwork, example_inputs
from ska_vct.engine.optim import build_optimizer
from ska_vct.engine.setup import load_cfg


def test_an_audio_encoder_of_ones_own(example, train, changed, tmp_path, small):
    config, first, last = train(example("Audio encoder", tmp_path))
    assert changed(first, last, "audio_encoder.") == [
        "backbone.0.bias", "backbone.0.weight", "proj.bias", "proj.weight",
    ]  # fmt: skip

    cfg = load_cfg(config, [*small, "SOLVER.BACKBONE_MULTIPLIER", "0.25"])
    model = build_model(cfg)
    rates = {id(p): group["lr"] for group in build_optimizer(cfg, model).param_groups for p in group["params"]}
    encoder = model.audio_encoder
    assert rates[id(encoder.backbone[0].weight)] == 0.25 * rates[id(encoder.proj.weight)]

    model.load_state_dict(last)
    network = InferenceNetwork(model=model.eval(), output_size=cfg.INPUT.EVAL_SIZE)
    inputs = example_inputs(cfg, network, frames=2, size=cfg.INPUT.SIZE)
    # Hops that the clip's file does not hold.
    inputs["audio_second"][1, 0, 90:] = float("nan")
    with torch.no_grad():
        scores = network(**inputs)
        inputs["audio_second"][0] += 1
        other = network(**inputs)
    assert scores.isfinite().all() and not torch.equal(scores[0], other[0]) and torch.equal(scores[1], other[1])
