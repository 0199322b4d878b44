"""Every implementation of deformable attention equals sampling by hand, with its gradients."""

import math

import pytest
import torch
from detectron2.modeling import build_model

from ska_vct.modeling.layers import DEFORM_IMPLEMENTATIONS, MSDeformAttn, deform_attn
from ska_vct.modeling.layers.deform_attn import choice
from ska_vct.modeling.layers.deform_attn.grid import deform_attn_grid

LEVELS = [
    [(1, 1)],
    [(3, 5), (1, 1), (2, 7)],
    [(4, 4), (8, 8), (16, 16)],
]


def make(shapes, *, batch=2, queries=7, heads=3, dim=4, points=2, dtype=torch.float64, spread=2.0):
    """Values, locations (many outside) and weights that require gradients."""
    cells = sum(h * w for h, w in shapes)
    value = torch.randn(batch, cells, heads, dim, dtype=dtype)
    locations = 0.5 + spread * (torch.rand(batch, queries, heads, len(shapes), points, 2, dtype=dtype) - 0.5)
    weights = torch.rand(batch, queries, heads, len(shapes), points, dtype=dtype)
    return [x.requires_grad_() for x in (value, locations, weights)]


def with_gradients(run, value, shapes, locations, weights, seed):
    out = run(value, shapes, locations, weights)
    return out, *torch.autograd.grad(out, (value, locations, weights), seed)


def by_hand(value, shapes, locations, weights):
    """The definition, one point after another."""
    batch, queries, heads, _, points, _ = locations.shape
    out = torch.zeros(batch, queries, heads, value.shape[3], dtype=value.dtype)
    for n in range(batch):
        for q in range(queries):
            for m in range(heads):
                start = 0
                for level, (h, w) in enumerate(shapes):
                    for p in range(points):
                        x, y = (locations[n, q, m, level, p] * torch.tensor([w, h]) - 0.5).tolist()
                        for row in (math.floor(y), math.floor(y) + 1):
                            for column in (math.floor(x), math.floor(x) + 1):
                                if 0 <= row < h and 0 <= column < w:
                                    share = (1 - abs(y - row)) * (1 - abs(x - column))
                                    cell = value[n, start + row * w + column, m]
                                    out[n, q, m] += weights[n, q, m, level, p] * share * cell
                    start += h * w
    return out.flatten(2)


@pytest.mark.parametrize("name", ["torch", "grid_sample"])
@pytest.mark.parametrize("shapes", LEVELS, ids=str)
def test_equals_the_definition(name, shapes):
    value, locations, weights = make(shapes)
    with torch.no_grad():
        out = DEFORM_IMPLEMENTATIONS[name](value, shapes, locations, weights)
        torch.testing.assert_close(out, by_hand(value, shapes, locations, weights), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shapes", LEVELS, ids=str)
@pytest.mark.parametrize(("queries", "dim", "points"), [(7, 4, 2), (1, 1, 1), (33, 32, 4)])
def test_gradients_equal_those_of_grid_sample(shapes, queries, dim, points):
    inputs = make(shapes, queries=queries, dim=dim, points=points)
    seed = torch.randn(2, queries, 3 * dim, dtype=torch.float64)
    value, locations, weights = inputs
    wanted = with_gradients(deform_attn_grid, value, shapes, locations, weights, seed)
    found = with_gradients(DEFORM_IMPLEMENTATIONS["torch"], value, shapes, locations, weights, seed)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_gradcheck():
    shapes = [(3, 4), (1, 1)]
    value, locations, weights = make(shapes, batch=1, queries=3, heads=2, dim=3)
    # A difference quotient is no gradient where it steps over the border of a cell.
    size = torch.tensor([[w, h] for h, w in shapes], dtype=torch.float64)[:, None]
    with torch.no_grad():
        place = locations * size - 0.5
        locations.copy_((place.floor() + 0.1 + 0.8 * (place - place.floor()) + 0.5) / size)
    run = DEFORM_IMPLEMENTATIONS["torch"]
    assert torch.autograd.gradcheck(lambda *x: run(x[0], shapes, *x[1:]), (value, locations, weights))


def test_places_on_and_far_beyond_the_border():
    shapes = [(2, 3)]
    value = torch.arange(1.0, 7).view(1, 6, 1, 1).requires_grad_()
    # Cell (0, 0); half a cell left of it; the corner; just outside on both sides; very far; infinite.
    places = [
        (1 / 6, 1 / 4),
        (0.0, 1 / 4),
        (0.0, 0.0),
        (-1 / 6, 1 / 4),
        (7 / 6, 1 / 4),
        (1e9, -1e9),
        (math.inf, 0.5),
    ]
    locations = torch.tensor(places).view(1, -1, 1, 1, 1, 2).requires_grad_()
    weights = torch.ones(1, len(places), 1, 1, 1, requires_grad=True)
    out = deform_attn(value, shapes, locations, weights)
    # 1; 1/2 of it; 1/4; then a whole cell outside: nothing.
    torch.testing.assert_close(out[0, :6, 0], torch.tensor([1.0, 0.5, 0.25, 0.0, 0.0, 0.0]), rtol=0, atol=1e-6)
    of_locations = torch.autograd.grad(out[:, :6].sum(), locations)[0].view(-1, 2)
    assert torch.equal(of_locations[4:], torch.zeros(3, 2))
    # Half a cell left: the value rises by 1 over a cell, a third of the image.
    assert of_locations[1, 0] == pytest.approx(3.0, abs=1e-5)


@pytest.mark.parametrize("spoilt", [1, 2])
def test_what_is_no_number_shows_in_the_result_alone(spoilt):
    inputs = make([(3, 3)], dtype=torch.float32)
    with torch.no_grad():
        inputs[spoilt][1, 2, 0] = math.nan
        out = deform_attn(inputs[0], [(3, 3)], *inputs[1:])
    spoilt_places = out.isnan().view(2, 7, 3, 4).any(-1).nonzero().tolist()
    assert spoilt_places == [[1, 2, 0]]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_half_precision_is_summed_in_float32(dtype, tolerance):
    shapes = [(4, 4), (8, 8)]
    value, locations, weights = (x.detach().float() for x in make(shapes, points=4, spread=1.2))
    value, weights = value.to(dtype).requires_grad_(), weights.to(dtype).requires_grad_()
    locations.requires_grad_()
    seed = torch.randn(2, 7, 12).to(dtype)
    found = with_gradients(deform_attn, value, shapes, locations, weights, seed)
    exact = [x.detach().double().requires_grad_() for x in (value, locations, weights)]
    wanted = with_gradients(deform_attn_grid, exact[0], shapes, *exact[1:], seed.double())
    for a, b in zip(found, wanted, strict=True):
        # Rounded once, when it is stored: half a unit in the last place.
        torch.testing.assert_close(a.double(), b, rtol=tolerance, atol=1e-5)
    assert [x.dtype for x in found] == [dtype, dtype, torch.float32, dtype]


def test_blocks_make_no_difference(monkeypatch):
    from ska_vct.modeling.layers.deform_attn import rows

    inputs = make([(3, 5), (2, 2)], batch=5)
    whole = deform_attn(inputs[0], [(3, 5), (2, 2)], *inputs[1:])
    monkeypatch.setattr(rows, "_BLOCK_POINTS", 1)
    assert torch.equal(deform_attn(inputs[0], [(3, 5), (2, 2)], *inputs[1:]), whole)
    # Two images a block, the last has one: 7 queries * 3 heads * 2 levels * 2 points = 84 points an image.
    monkeypatch.setattr(rows, "_BLOCK_POINTS", 2 * 84)
    assert torch.equal(deform_attn(inputs[0], [(3, 5), (2, 2)], *inputs[1:]), whole)


def test_operators_keep_pytorchs_rules():
    from ska_vct.modeling.layers.deform_attn.rows import deform_attn_rows

    value, locations, weights = make([(3, 5), (2, 2)])
    torch.library.opcheck(deform_attn_rows, (value, [3, 5, 2, 2], locations, weights))


def test_it_is_one_node_of_a_compiled_graph():
    shapes = [(3, 5), (2, 2)]
    value, locations, weights = make(shapes)

    def double(value, locations, weights):
        return 2 * deform_attn(value, shapes, locations, weights)

    compiled = torch.compile(double, backend="aot_eager", fullgraph=True)
    wanted = torch.autograd.grad(double(value, locations, weights).sum(), (value, locations, weights))
    found = torch.autograd.grad(compiled(value, locations, weights).sum(), (value, locations, weights))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_a_choice_that_cannot_run_is_refused_with_a_reason(tiny_cfg, monkeypatch):
    value, locations, weights = make([(2, 2)])
    with pytest.raises(ValueError, match="DEFORM_ATTN is 'fast'; choose auto or one of torch, triton"):
        deform_attn(value, [(2, 2)], locations, weights, "fast")
    monkeypatch.setattr(choice, "_installed", lambda module: False)
    for name, words in (
        ("triton", "Triton is not installed.*pip install"),
        ("ms_deform_attn", "is not installed.*pip"),
    ):
        tiny_cfg.MODEL.PIXEL_DECODER.DEFORM_ATTN = name
        with pytest.raises(ValueError, match=f"DEFORM_ATTN is '{name}', but .*{words}.*Or set it to auto"):
            build_model(tiny_cfg)


def test_triton_without_cuda_is_refused():
    pytest.importorskip("triton")
    value, locations, weights = make([(2, 2)])
    with pytest.raises(ValueError, match="is 'triton', but the model is on 'cpu' and Triton needs CUDA"):
        deform_attn(value, [(2, 2)], locations, weights, "triton")
    with pytest.raises(ValueError, match="256 wide and its kernels hold 128"):
        MSDeformAttn(dim=512, num_levels=1, num_heads=2, num_points=1, implementation="triton")


@pytest.mark.parametrize(
    ("device", "exporting", "triton", "package", "wanted"),
    [
        ("cpu", False, True, True, "torch"),
        ("cuda:0", False, True, True, "triton"),
        ("cuda:0", True, True, True, "torch"),
        ("cuda:0", False, False, True, "ms_deform_attn"),
        ("cuda:0", False, False, False, "torch"),
    ],
)
def test_what_auto_takes(monkeypatch, device, exporting, triton, package, wanted):
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    monkeypatch.setattr(choice, "_triton_problem", lambda *args: "")
    monkeypatch.setattr(choice, "_triton_works", lambda *args: triton)
    monkeypatch.setattr(choice, "_package_problem", lambda *args: "" if package else "it is not installed.")
    assert choice.choose(torch.device(device), torch.float32, 32) == wanted


def test_the_package_equals_ours():
    pytest.importorskip("torch_ms_deform_attn")
    shapes = LEVELS[1]
    value, locations, weights = make(shapes)
    seed = torch.randn(2, 7, 12, dtype=torch.float64)
    wanted = with_gradients(deform_attn_grid, value, shapes, locations, weights, seed)
    found = with_gradients(DEFORM_IMPLEMENTATIONS["ms_deform_attn"], value, shapes, locations, weights, seed)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    half = value.detach().bfloat16()
    out = deform_attn(half, shapes, locations.float(), weights.float(), "ms_deform_attn")
    assert out.dtype == torch.bfloat16
