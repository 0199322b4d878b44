"""A motion module from outside the package: trained, saved, counted and exported."""

import torch
from detectron2.modeling import build_model

from ska_vct.deploy.export import compare, make_program
from ska_vct.deploy.network import InferenceNetwork
from ska_vct.engine.setup import load_cfg
from ska_vct.profiling.costs import cost_report


def test_a_motion_module_of_ones_own(example, train, changed, tmp_path, small):
    config, first, last = train(example("Motion module", tmp_path))
    names = changed(first, last, "ska.")
    assert names == [
        "heard.bias",
        "heard.weight",
        *(f"seen.{i}.{kind}" for i in (0, 2) for kind in ("bias", "weight")),
    ]

    cfg = load_cfg(config, small)
    part = next(row for name, row in cost_report(cfg, 2)["parts"].items() if name == "SKA")
    assert part["parameters"] == sum(value.numel() for name, value in last.items() if name.startswith("ska."))

    model = build_model(cfg).eval()
    model.load_state_dict(last)
    network = InferenceNetwork(model=model, output_size=cfg.INPUT.EVAL_SIZE).eval()
    program = make_program(cfg, network, dynamic_size=False)
    # Raises where the exported network answers in another way.
    assert compare(cfg, network, lambda inputs: program.module()(**inputs), False) < 1e-4
    still = torch.zeros(1, 1, 2, 24, 24)
    assert model.ska(torch.randn(1, 32, 6, 4), None, still).motion_map.abs().max() == 0
