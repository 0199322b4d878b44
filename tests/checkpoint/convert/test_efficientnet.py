"""EfficientNet-Lite0 under efficientnet_pytorch's names: every weight arrives where timm has it."""

import timm
import torch

from ska_vct.checkpoint.convert.backbones import from_efficientnet, is_efficientnet

_STAGES = (1, 2, 2, 3, 3, 4, 1)


def published() -> dict[str, torch.Tensor]:
    """timm's weights under the published names, which hold them in the same order."""
    network = timm.create_model("tf_efficientnet_lite0")
    names = ["_conv_stem.weight", *norm("_bn0")]
    for number in range(sum(_STAGES)):
        place = f"_blocks.{number}."
        if number:
            names += [f"{place}_expand_conv.weight", *norm(f"{place}_bn0")]
        names += [f"{place}_depthwise_conv.weight", *norm(f"{place}_bn1")]
        names += [f"{place}_project_conv.weight", *norm(f"{place}_bn2")]
    names += ["_conv_head.weight", *norm("_bn1"), "_fc.weight", "_fc.bias"]
    state = {name: value for name, value in network.state_dict().items() if "num_batches" not in name}
    assert len(state) == len(names) == 247
    return dict(zip(names, state.values(), strict=True))


def norm(name: str) -> list[str]:
    return [f"{name}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]


def test_the_feature_network_computes_the_same():
    torch.manual_seed(0)
    state = published()
    assert is_efficientnet(set(state))
    converted = from_efficientnet(state)
    network = timm.create_model("tf_efficientnet_lite0", features_only=True).eval()
    own = {name for name in network.state_dict() if "num_batches" not in name}
    assert converted.state.keys() == own
    assert set(converted.unused) == {"_conv_head.weight", *norm("_bn1"), "_fc.weight", "_fc.bias"}
    network.load_state_dict(converted.state, strict=False)
    whole = timm.create_model("tf_efficientnet_lite0").eval()
    own = [name for name in whole.state_dict() if "num_batches" not in name]
    whole.load_state_dict(dict(zip(own, state.values(), strict=True)), strict=False)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        last = whole.blocks(whole.bn1(whole.conv_stem(image)))
        assert torch.allclose(network(image)[-1], last, atol=1e-5)
