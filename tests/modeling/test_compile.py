"""Compiled parts: one graph each, few compilations for clips of many lengths, the same results."""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

SWIN = (
    *("MODEL.BACKBONE.NAME", "build_swin_backbone", "MODEL.SWIN.EMBED_DIM", 16, "MODEL.SWIN.WINDOW_SIZE", 4),
    *("MODEL.SWIN.DEPTHS", [1, 2, 1, 1], "MODEL.SWIN.NUM_HEADS", [1, 2, 4, 8], "MODEL.SWIN.DROP_PATH_RATE", 0.0),
)
PARTS = 3


@pytest.fixture(autouse=True)
def _forget_graphs():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def results(model, clips):
    with torch.no_grad():
        return [result["sem_seg"] for result in model.eval()(clips)]


@pytest.mark.parametrize("overrides", [SWIN, pytest.param((), marks=pytest.mark.slow)])
def test_no_breaks_and_no_compilation_per_length(tiny, overrides):
    make_model, make_clip = tiny
    model = make_model(*overrides)
    clips = [make_clip(length, seed=length) for length in (5, 3, 7)]
    wanted = [results(model, [clip])[0] for clip in clips]
    names = list(model.state_dict())
    counter = CompileCounter()
    # A break in a graph would raise.
    model.compile_parts(backend=counter, fullgraph=True)
    for clip, result in zip(clips, wanted, strict=True):
        # The graph runs PyTorch's own kernels on the same shapes; the grids of positions are made anew.
        assert torch.allclose(results(model, [clip])[0], result, atol=1e-5)
    # One for the first length, one for all others.
    assert counter.frame_count <= 2 * PARTS
    assert list(model.state_dict()) == names


@pytest.mark.slow
@pytest.mark.parametrize("checkpoint", [False, True])
def test_inductor_equals_eager_in_inference_and_training(tiny, monkeypatch, checkpoint):
    make_model, make_clip = tiny
    monkeypatch.setattr("ska_vct.modeling.queries.mpqg.sample_gumbel", lambda shape, like: torch.zeros(shape))
    keys = [f"MODEL.{part}.CHECKPOINT" for part in ("BACKBONE", "PIXEL_DECODER", "DECODER")]
    overrides = (*SWIN, *(value for key in keys for value in (key, checkpoint)))
    plain, ours = make_model(*overrides), make_model(*overrides, "MODEL.COMPILE", True)
    ours.load_state_dict(plain.state_dict())
    clips = [make_clip(2), make_clip(3, seed=1)]
    for a, b in zip(results(ours, clips), results(plain, clips), strict=True):
        # Scores are sums of up to six masks in 0..1; fused kernels round in another order.
        assert torch.allclose(a, b, atol=1e-4)
    for model in (plain, ours):
        sum(model.train()(clips).values()).backward()
    for (name, p), q in zip(plain.named_parameters(), ours.parameters(), strict=True):
        # Relative to the part's largest gradient: float32 rounding through some twenty layers.
        assert torch.allclose(q.grad, p.grad, atol=1e-3 * float(p.grad.abs().max()) + 1e-5), name
