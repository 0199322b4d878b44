"""The model's inner maps make its prediction, and the motion prompt is what tells two of them apart."""

import pytest
import torch
from detectron2.modeling import build_model

from ska_vct.modeling.inspection import inspect
from ska_vct.modeling.motion.ska import min_max


@pytest.fixture
def cfg(tiny_cfg):
    tiny_cfg.TEST.RETURN_EXTRAS = True
    return tiny_cfg


def model_of(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


@pytest.mark.parametrize("name", ["SKA", "TemporalSKA", "FlowGatedSKA"])
def test_attention_of_the_heads_sums_to_one_and_makes_the_map(cfg, make_clip, name):
    cfg.MODEL.SKA.NAME = name
    clip = make_clip() | {"flow": torch.rand(5, 4, 2, 24, 24), "audio_second": torch.randn(5, 1, 100, 64)}
    clip["height"] = clip["width"] = 48
    model = model_of(cfg)
    (result,) = inspect(model, [clip])
    with torch.no_grad():
        (plain,) = model([clip])
    for key, value in plain.items():
        assert torch.equal(result[key], value), "looking does not change the result"
    heads = result["attention"]
    assert heads.shape == (5, cfg.MODEL.SKA.NUM_HEADS, 24, 24)
    torch.testing.assert_close(heads.sum((2, 3)), torch.ones(5, heads.shape[1]))
    if name == "SKA":
        stretched = min_max(heads.mean(1).flatten(1)).view(5, 24, 24)
        torch.testing.assert_close(result["motion_map"], stretched)


def test_the_prompt_changes_activation_only_where_something_moves(cfg, make_clip):
    model = model_of(cfg)
    with torch.no_grad():
        model.mpqg.motion_gate.fill_(5.0)
    clip = make_clip()
    clip["flow"][3:] = 0
    (result,) = inspect(model, [clip], num_queries=2)
    assert result["queries"].shape == result["queries_plain"].shape == (5, 2, 16, 16)
    assert result["activation"].min() >= 0 and result["activation"].max() <= 1
    changed = (result["activation"] - result["activation_plain"]).abs().amax((1, 2))
    assert (changed[:3] > 1e-6).all() and (changed[3:] == 0).all()
    # The shown queries are part of all of them, and are those with the largest share.
    assert (result["queries"].sum(1) <= result["activation"] + 1e-6).all() or result["activation"].max() == 1
    (every,) = inspect(model, [clip], num_queries=99)
    assert every["query_index"].tolist()[:2] == result["query_index"].tolist()
    torch.testing.assert_close(every["queries"].sum(1).clamp(max=1), result["activation"])


def test_padding_is_cut_off_and_batches_change_nothing(cfg, make_clip):
    model = model_of(cfg)
    small, large = make_clip(frames=2, side=40, eval_side=40), make_clip(frames=3, seed=1)
    both = inspect(model, [small, large])
    assert both[0]["activation"].shape == (2, 10, 10) and both[1]["activation"].shape == (3, 16, 16)
    (alone,) = inspect(model, [large])
    torch.testing.assert_close(both[1]["activation"], alone["activation"], atol=1e-5, rtol=1e-4)


def test_without_a_motion_module_there_is_one_kind_of_activation(cfg, make_clip):
    cfg.MODEL.SKA.ENABLED = False
    (result,) = inspect(model_of(cfg), [make_clip()])
    assert "activation" in result and not {"attention", "activation_plain", "queries_plain"} & set(result)
