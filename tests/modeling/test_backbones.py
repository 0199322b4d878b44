"""Backbones: names, strides, and the fused attention."""

import pytest
import torch
from detectron2.modeling.backbone.swin import SwinTransformer

from ska_vct.modeling.backbones import SwinBackbone, TimmBackbone

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


@pytest.mark.parametrize("name", ["resnet10t", "pvt_v2_b0"])
def test_timm_outputs_have_the_four_strides(name):
    backbone = TimmBackbone(name=name)
    shapes = backbone.output_shape()
    features = backbone(torch.randn(1, 3, 64, 96))
    for feature, shape in shapes.items():
        assert features[feature].shape == (1, shape.channels, 64 // shape.stride, 96 // shape.stride)
    assert [shape.stride for shape in shapes.values()] == [4, 8, 16, 32]


def test_unknown_timm_name_lists_similar_ones():
    with pytest.raises(ValueError, match="resnet50"):
        TimmBackbone(name="resnet5")
