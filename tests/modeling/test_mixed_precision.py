"""Under autocast matrix products are in half precision; places, norms, softmax and losses are not."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from ska_vct.modeling.layers import ms_deform_attn
from ska_vct.modeling.pixel_decoder import MSDeformAttnPixelDecoder

WIDTHS = {"res2": 16, "res3": 24, "res4": 32, "res5": 48}


def make_decoder(amp=True):
    torch.manual_seed(0)
    decoder = MSDeformAttnPixelDecoder(
        input_shape={name: ShapeSpec(channels=width) for name, width in WIDTHS.items()},
        in_features=list(WIDTHS), dim=64, mask_dim=64, num_layers=2, num_heads=4, num_points=4,
        feedforward_dim=128, dropout=0.0, amp=amp,
    )  # fmt: skip
    for layer in decoder.layers:
        # As after training: places that depend on the query and do not all lie on cell centres.
        nn.init.normal_(layer.self_attn.sampling_offsets.weight, std=0.05)
        nn.init.normal_(layer.self_attn.attention_weights.weight, std=0.05)
    generator = torch.Generator().manual_seed(1)
    features = {
        name: torch.randn(2, width, 32 >> level, 32 >> level, generator=generator, requires_grad=True)
        for level, (name, width) in enumerate(WIDTHS.items())
    }
    return decoder, features


def run(decoder, features, enabled):
    """Outputs, and gradients by parameter and input."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        mask_features, scales = decoder(features)
    outputs = [x.float() for x in (mask_features, *scales)]
    generator = torch.Generator().manual_seed(2)
    total = sum((x * torch.randn(x.shape, generator=generator)).sum() for x in outputs)
    leaves = {**features, **dict(decoder.named_parameters())}
    gradients = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
    return mask_features.dtype, outputs, gradients


def relative(found, wanted):
    found, wanted = found.detach(), wanted.detach()
    return float((found - wanted).norm() / wanted.norm())


def test_the_pixel_decoder_in_bfloat16_agrees_with_float32():
    decoder, features = make_decoder()
    dtype, outputs, gradients = run(decoder, features, enabled=True)
    _, wanted, wanted_gradients = run(decoder, features, enabled=False)
    assert dtype == torch.bfloat16
    # A product rounds its inputs and result to 2^-9 each; about ten follow one another, in part independently.
    assert max(relative(a, b) for a, b in zip(outputs, wanted, strict=True)) < 10 * 2**-9
    for name, gradient in gradients.items():
        assert gradient.isfinite().all() and gradient.dtype == torch.float32
        # Rounding to 2^-9 switches about one ReLU in 2^8 that lies near zero, a share of 2^-8 of the squared
        # gradient, hence 2^-4 of its norm. Places jump in gradient from cell to cell, too.
        assert relative(gradient, wanted_gradients[name]) < (0.2 if "sampling_offsets" in name else 0.1), name


def test_switched_off_it_is_float32_bit_by_bit():
    decoder, features = make_decoder(amp=False)
    _, outputs, gradients = run(decoder, features, enabled=True)
    _, wanted, wanted_gradients = run(decoder, features, enabled=False)
    assert all(torch.equal(a, b) for a, b in zip(outputs, wanted, strict=True))
    assert all(torch.equal(gradients[name], wanted_gradients[name]) for name in gradients)


def test_what_is_half_and_what_is_not(monkeypatch):
    decoder, features = make_decoder()
    seen = []

    def record(value, shapes, locations, weights, implementation):
        seen.append((value.dtype, locations.dtype, weights.dtype))
        return original(value, shapes, locations, weights, implementation)

    original = ms_deform_attn.deform_attn
    monkeypatch.setattr(ms_deform_attn, "deform_attn", record)
    norms, products = set(), set()
    for module in decoder.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda module, inputs, output: norms.add((inputs[0].dtype, output.dtype)))
        if isinstance(module, nn.Linear) and module.out_features in (64, 128):
            module.register_forward_hook(lambda module, inputs, output: products.add(output.dtype))
    run(decoder, features, enabled=True)
    assert set(seen) == {(torch.bfloat16, torch.float32, torch.float32)}
    assert norms == {(torch.float32, torch.float32)}
    assert products == {torch.bfloat16}


class Float64(TorchDispatchMode):
    """Collects operators that make float64."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = out if isinstance(out, (tuple, list)) else [out]
        if any(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in made):
            self.found.add(str(func))
        return out


@pytest.mark.parametrize("enabled", [True, False], ids=["autocast", "float32"])
def test_a_training_step_of_the_whole_model(tiny, enabled):
    make_model, make_clip = tiny
    model = make_model("MODEL.MPQG.NUM_PROTOTYPES", 3).train()
    with Float64() as mode:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            losses = model([make_clip(2), make_clip(1, seed=1)])
        sum(losses.values()).backward()
    assert mode.found == set()
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(loss.isfinite() for loss in losses.values())
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert [name for name, grad in gradients.items() if grad is None or not grad.isfinite().all()] == []


def test_inference_of_the_whole_model(tiny):
    make_model, make_clip = tiny
    model = make_model().eval()
    clip = make_clip(2)
    with torch.no_grad():
        wanted = model([clip])[0]["sem_seg"]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = model([clip])[0]["sem_seg"]
    assert found.dtype == torch.float32
    # Scores of an untrained model; ten layers of products rounded to 2^-9 each.
    assert relative(found, wanted) < 0.05
