"""A backbone from outside the package, and a timm network by name, train through the command line."""

import pytest
from detectron2.modeling import build_backbone

from ska_vct.config import get_cfg


def test_a_backbone_of_ones_own_trains_two_steps(example, train, changed, tmp_path):
    _, first, last = train(example("Backbone", tmp_path))
    names = changed(first, last, "backbone.")
    assert names == [f"stages.{i}.0.{kind}" for i in range(4) for kind in ("bias", "weight")]


def test_a_timm_network_needs_only_its_name(first_yaml, tmp_path):
    (tmp_path / "config.yaml").write_text(first_yaml("Backbone"))
    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "config.yaml"))
    shapes = build_backbone(cfg).output_shape()
    assert [shape.stride for shape in shapes.values()] == [4, 8, 16, 32]


@pytest.mark.parametrize(("key", "value"), [("MODEL.AUDIO.NAME", "Nobody"), ("MODEL.SKA.NAME", "Nobody")])
def test_an_unknown_name_lists_the_known_ones(tiny_cfg, key, value):
    from detectron2.modeling import build_model

    tiny_cfg.merge_from_list([key, value])
    with pytest.raises(KeyError, match=rf"{key} is 'Nobody', which is not registered; there are .*(VGGish|SKA)"):
        build_model(tiny_cfg)
