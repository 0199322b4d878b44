"""Backbones: names, strides, and the fused attention."""

import pytest
import timm
import torch
from detectron2.modeling.backbone.swin import SwinTransformer, WindowAttention

from ska_vct.modeling.backbones import SwinBackbone, TimmBackbone
from ska_vct.modeling.backbones.swin import FusedWindowAttention
from ska_vct.utils.errors import InputError

SWIN = {
    "embed_dim": 16,
    "depths": [2, 2, 2, 2],
    "num_heads": [1, 2, 4, 8],
    "window_size": 5,
    "drop_path_rate": 0.0,
}


def test_fused_attention_equals_the_plain_one_with_gradients():
    torch.manual_seed(0)
    plain, fused = SwinTransformer(**SWIN), SwinBackbone(**SWIN)
    fused.network.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 70, 90)
    wanted, ours = plain(images), fused(images)
    for index in range(4):
        # float32 rounding: the kernels sum in another order
        assert torch.allclose(ours[f"res{index + 2}"], wanted[f"p{index}"], atol=1e-5)
    sum(x.square().sum() for x in wanted.values()).backward()
    sum(x.square().sum() for x in ours.values()).backward()
    for (name, a), b in zip(plain.named_parameters(), fused.network.parameters(), strict=True):
        assert torch.allclose(a.grad, b.grad, rtol=1e-3, atol=1e-3 * float(a.grad.abs().max())), name


def test_the_kept_bias_follows_its_table():
    torch.manual_seed(0)
    attention = WindowAttention(16, window_size=(4, 4), num_heads=2)
    attention.__class__ = FusedWindowAttention
    x = torch.randn(6, 16, 16)

    def fresh():
        attention._kept = None
        return attention(x)

    with torch.no_grad():
        attention.train()
        attention(x)
        assert attention._kept is None
        attention.eval()
        first = attention(x)
        kept = attention._kept[2]
        assert torch.equal(attention(x), first) and attention._kept[2] is kept
        # Loaded; written by an optimiser; swapped for another tensor.
        attention.load_state_dict(
            {k: v * 2 if v.is_floating_point() else v for k, v in attention.state_dict().items()}
        )
        assert not torch.equal(attention(x), first) and torch.equal(attention(x), fresh())
        attention(x)
        attention.relative_position_bias_table.add_(torch.randn(49, 2))
        assert torch.equal(attention(x), fresh())
        attention(x)
        attention.relative_position_bias_table.data = torch.randn(49, 2)
        assert torch.equal(attention(x), fresh())
        attention(x)
        attention.double()
        assert torch.equal(attention(x.double()), attention(x.double()))
    assert "_kept" not in attention.state_dict()
    attention(x.double()).sum().backward()
    assert attention.relative_position_bias_table.grad is not None


@pytest.mark.parametrize("name", ["resnet10t", "pvt_v2_b0"])
def test_timm_outputs_have_the_four_strides(name):
    backbone = TimmBackbone(name=name)
    shapes = backbone.output_shape()
    features = backbone(torch.randn(1, 3, 64, 96))
    for feature, shape in shapes.items():
        assert features[feature].shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)
    assert [shape.stride for shape in shapes.values()] == [4, 8, 16, 32]


@pytest.mark.parametrize(
    "name", ["convnext_atto", "swin_tiny_patch4_window7_224", "mambaout_femto", "hiera_tiny_224"]
)
def test_networks_of_a_fixed_size_or_with_channels_last(name):
    with torch.device("meta"):
        backbone = TimmBackbone(name=name, size=(64, 96))
        features = backbone(torch.empty(1, 3, 64, 96))
    for feature, shape in backbone.output_shape().items():
        assert features[feature].shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["resnet*", "convnext*", "swin*"])
def test_every_network_of_three_families(family):
    names = timm.list_models(family)
    assert len(names) > 25
    for name in names:
        with torch.device("meta"):
            backbone = TimmBackbone(name=name, size=(64, 96))
            features = backbone(torch.empty(1, 3, 64, 96))
        for feature, shape in backbone.output_shape().items():
            wanted = (1, shape.channels, 64 // shape.stride, 96 // shape.stride)
            assert features[feature].shape == wanted, name


@pytest.mark.parametrize(
    ("name", "similar"),
    [("resnet5", "resnet50"), ("convnext_atoo", "convnext_atto"), ("swin_tiny", "swin_tiny_patch4_window7_224")],
)
def test_unknown_timm_name_lists_similar_ones(name, similar):
    with pytest.raises(ValueError, match=similar):
        TimmBackbone(name=name)


def test_arguments_of_another_family_are_dropped_and_named(caplog):
    backbone = TimmBackbone(name="pvt_v2_b0", channels=[32, 48, 64, 96], embed_dims=[16, 32, 40, 64])
    assert "timm's 'pvt_v2_b0' has no argument 'channels'; [32, 48, 64, 96] is ignored" in caplog.text
    assert [shape.channels for shape in backbone.output_shape().values()] == [16, 32, 40, 64]


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mvitv2_tiny", "resnet50.no_such_weights"])
def test_what_cannot_serve_is_refused_with_a_sentence(name):
    with pytest.raises(InputError, match="MODEL.TIMM.NAME"), torch.device("meta"):
        TimmBackbone(name=name, size=(64, 96))
