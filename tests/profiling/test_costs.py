"""FLOPs, parameters and memory by part: hand-computed counts, and agreement with models that have data."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from torch import nn

from ska_vct.engine.setup import load_cfg
from ska_vct.modeling.backbones.swin import FusedWindowAttention
from ska_vct.modeling.layers import MSDeformAttn
from ska_vct.profiling.costs.complexity import CONFIGS, PAPER_CONFIGS, complexity, read_golden
from ska_vct.profiling.costs.fake import build_without_data
from ska_vct.profiling.costs.fit import LinearModel, fit_report, fit_text, held_bytes, measure_peaks
from ska_vct.profiling.costs.flops import FlopCounter
from ska_vct.profiling.costs.kernels import ATTENTION, DEFORM, fused_kernels
from ska_vct.profiling.costs.parts import PARTS, PartTracker, part_of
from ska_vct.profiling.costs.report import batch_table, cost_report, cost_table, memory_report, memory_tables
from ska_vct.profiling.costs.saved import SavedTensors
from ska_vct.profiling.costs.trace import parameter_counts, trace
from ska_vct.profiling.timing import BenchmarkError
from ska_vct.profiling.timing.clips import make_clips


def count(run) -> FlopCounter:
    counter = FlopCounter(PartTracker())
    with torch.no_grad(), counter, fused_kernels(counter.add):
        run()
    return counter


def flops(run) -> int:
    return sum(count(run).by_part().values())


def saved_bytes(run, module: nn.Module) -> int:
    saved = SavedTensors(PartTracker(), module)
    with saved:
        out = run()
    del out
    return saved.bytes.total()


def test_a_linear_layer_and_a_convolution():
    # 5 rows, 3 -> 4: 5 * 3 * 4 products and as many additions, including the bias.
    linear = nn.Linear(3, 4)
    assert flops(lambda: linear(torch.zeros(5, 3))) == 2 * 5 * 3 * 4
    # 3 x 3 over 6 x 6 with padding: 36 locations, 2 -> 4 channels.
    conv = nn.Conv2d(2, 4, 3, padding=1)
    assert flops(lambda: conv(torch.zeros(1, 2, 6, 6))) == 2 * 36 * 9 * 2 * 4


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (lambda x: x + 1, 24),
        (lambda x: x.clone().add_(x), 24),
        (lambda x: F.gelu(x), 24),
        (lambda x: x.softmax(-1), 5 * 24),
        (lambda x: x.sum(-1), 24),
        (lambda x: F.layer_norm(x, (6,)), 5 * 24),
        (lambda x: F.max_pool2d(x, 2), 4 * 6),
        (lambda x: F.interpolate(x, size=(8, 12), mode="bilinear"), 8 * 96),
        # Five locations, one channel, eight per value.
        (lambda x: F.grid_sample(x, torch.zeros(1, 1, 5, 2), align_corners=False), 8 * 5),
        (lambda x: F.embedding_bag(torch.zeros(2, 4, dtype=torch.long), torch.zeros(9, 3), mode="sum"), 2 * 8 * 3),
        (lambda x: x.transpose(-1, -2).contiguous()[:, :, :2].to(torch.float64) > 0, 0),
        (lambda x: torch.arange(7) * 2, 0),
    ],
)
def test_one_operation(run, expected):
    x = torch.zeros(1, 1, 4, 6)
    counter = count(lambda: run(x))
    assert sum(counter.by_part().values()) == expected and not counter.uncounted


def test_what_has_no_rule_is_listed():
    counter = count(lambda: torch.linalg.qr(torch.eye(3)))
    assert counter.uncounted["aten.linalg_qr"] == 1


def test_one_deformable_attention():
    # C = 8, 2 heads of width 4, 1 level of 2 x 3 = 6 cells, 2 points, 6 queries.
    layer = MSDeformAttn(dim=8, num_levels=1, num_heads=2, num_points=2)
    x, reference = torch.zeros(1, 6, 8), torch.zeros(1, 6, 1, 2)
    counter = count(lambda: layer(x, reference, x, [(2, 3)]))
    # Value and output 8 -> 8, offsets 8 -> 2*1*2*2 = 8, weights 8 -> 4.
    assert counter.flops["rest", "addmm"] == 2 * 6 * 8 * (8 + 8 + 8 + 4)
    # 6 queries * 2 heads * 2 points read 4 channels: four neighbours (8), and weight and sum (2).
    assert counter.flops["rest", DEFORM] == 6 * 2 * 2 * 4 * (8 + 2)
    assert counter.flops["rest", "_softmax"] == 5 * 6 * 2 * 2
    # Locations: offset / size + reference, two numbers per point.
    assert counter.flops["rest", "div"] == counter.flops["rest", "add"] == 6 * 2 * 2 * 2
    assert not counter.uncounted


@pytest.mark.parametrize("masked", [False, True])
def test_one_window_attention(masked):
    # Two windows of 2 x 2 pixels, 2 heads of width 3.
    layer = FusedWindowAttention(6, (2, 2), 2)
    mask = torch.zeros(2, 4, 4) if masked else None
    counter = count(lambda: layer(torch.zeros(2, 4, 6), mask))
    # 8 pixels, 6 -> 18 and 6 -> 6.
    assert counter.flops["rest", "addmm"] == 2 * 8 * 6 * (18 + 6)
    # 2 windows * 2 heads * 4 x 4 weights: q k and weights v of width 3 (12), softmax and scale (6), bias (1).
    assert counter.flops["rest", ATTENTION] == 2 * 2 * 16 * (12 + 6 + 1)
    # The shift's mask is added to the bias table, 2 windows * 2 heads * 4 x 4.
    assert counter.flops["rest", "add"] == (64 if masked else 0)


def test_fused_attention_keeps_no_weights():
    q = torch.zeros(1, 1, 64, 4, requires_grad=True)
    module = nn.Identity()

    def attend(fused: bool) -> int:
        with fused_kernels(lambda *_: None) if fused else nullcontext():
            return saved_bytes(lambda: F.scaled_dot_product_attention(q * 1, q * 2, q * 3), module)

    # q, k, v and the result (64 * 4 numbers each), and 64 sums.
    assert attend(True) == 4 * (4 * 64 * 4 + 64)
    bias = torch.zeros(64, 64, requires_grad=True)
    # With a trainable bias PyTorch saves the 64 x 64 weights on a CPU.
    assert saved_bytes(lambda: F.scaled_dot_product_attention(q * 1, q * 2, q * 3, bias), module) > 4 * 64 * 64


def test_saved_storages_count_once_and_parameters_not_at_all():
    linear, x = nn.Linear(16, 16), torch.zeros(4, 16)

    def run():
        hidden = linear(x)  # keeps x (256 bytes); the weight needs none, as x carries no gradient
        return hidden.sigmoid().sum() + hidden.square().sum()  # saves the sigmoid and hidden, once each

    assert saved_bytes(run, linear) == 3 * 4 * 16 * 4


def test_checkpointed_blocks_keep_their_inputs_alone():
    from torch.utils.checkpoint import checkpoint

    block = nn.Sequential(nn.Linear(8, 64), nn.Sigmoid(), nn.Linear(64, 8), nn.Sigmoid())
    x = torch.zeros(2, 8, requires_grad=True) * 1
    assert saved_bytes(lambda: block(x), block) == 4 * 2 * (8 + 64 + 8)
    assert saved_bytes(lambda: checkpoint(block, x, use_reentrant=False), block) == 4 * 2 * 8


def test_parts_are_followed_in_all_their_methods(tiny_cfg):
    model = build_model(tiny_cfg)
    assert {name.split(".")[0] for name, _ in model.named_parameters()} <= set(PARTS)
    tracker, seen = PartTracker(), []
    model.brm.head.register_forward_hook(lambda *_: seen.append(tracker.current))
    with tracker.follow(model):
        model.brm(torch.zeros(1, 32, 8, 8))
        assert tracker.current == "rest"
    model.brm(torch.zeros(1, 32, 8, 8))
    assert seen == ["BRM", "rest"] and part_of("pixel_mean") == "rest"


def test_a_model_without_data_is_the_model(tiny_cfg):
    real, empty = build_model(tiny_cfg), build_without_data(tiny_cfg)
    assert {p.device.type for p in empty.parameters()} == {"meta"}
    shapes = [{name: (p.shape, p.requires_grad) for name, p in m.named_parameters()} for m in (real, empty)]
    assert shapes[0] == shapes[1]
    assert parameter_counts(real) == parameter_counts(empty)


@pytest.mark.parametrize("points", [0, 64])
def test_what_is_kept_without_data_is_what_is_kept(tiny_cfg, points):
    tiny_cfg.MODEL.CRITERION.NUM_POINTS = points
    model = build_model(tiny_cfg).train()
    clips = make_clips(tiny_cfg, clips=1, train=True, frames=2)
    tracker = PartTracker()
    saved, counter = SavedTensors(tracker, model), FlopCounter(tracker)
    with tracker.follow(model), saved, counter, fused_kernels(counter.add):
        losses = model(clips)
    del losses
    found = trace(tiny_cfg, frames=2, train=True)
    assert found.frames == 2 and not found.uncounted
    for part in ("backbone", "audio encoder", "pixel decoder", "SKA", "MPQG", "decoder", "BRM", "criterion"):
        # PyTorch may add a linear layer's bias after the product, and copy its input, where it has no data.
        assert found.flops[part] == pytest.approx(counter.by_part()[part], rel=1e-2), part
        assert found.saved[part] == pytest.approx(saved.bytes[part], rel=0.1), part


def test_memory_reports_what_checkpointing_saves(tiny_cfg):
    other = tiny_cfg.clone()
    other.MODEL.PIXEL_DECODER.CHECKPOINT = True
    report = memory_report({"a": tiny_cfg, "b": other}, batch=2, frames=1, fused=True)
    kept = [report[name]["parts"]["pixel decoder"]["activations"] for name in "ab"]
    assert kept[1] < 0.7 * kept[0]
    assert report["a"]["parts"]["backbone"] | {"activations": 0} == report["b"]["parts"]["backbone"] | {
        "activations": 0
    }
    first = report["a"]["parts"]["decoder"]
    assert first["gradients"] == first["parameters"] and first["optimizer"] == 2 * first["parameters"]
    # Half the bytes for most saved tensors, more where cast weights are saved.
    assert report["a"]["total_amp"] < report["a"]["total"]
    assert "No GPU was measured" in memory_tables(report)


def test_the_table_of_batches_is_what_larger_batches_hold(tiny_cfg):
    one, two, found = (memory_report({"tiny": tiny_cfg}, batch=k, frames=1, fused=True) for k in (1, 2, 4))
    four, text = found["tiny"], batch_table(one, two, [1, 4])
    rows = [line.split("|") for line in text.splitlines() if line.startswith("| tiny")]
    assert len(rows) == 1 and "predicted from shapes" in text
    total, total_amp = (float(cell) for cell in rows[0][4].split("/"))
    assert total == pytest.approx(four["total"] / 2**30, abs=0.06)
    assert total_amp == pytest.approx(four["total_amp"] / 2**30, abs=0.06)


def test_frozen_parts_hold_no_gradients(tiny_cfg):
    tiny_cfg.SOLVER.FROZEN = ["backbone."]
    found = trace(tiny_cfg, frames=1, train=True)
    assert "backbone" not in found.trained and found.parameters["backbone"] > 0
    assert found.saved.get("backbone", 0) == 0


def test_costs_are_per_frame(tiny_cfg):
    one, three = (cost_report(tiny_cfg, frames) for frames in (1, 3))
    for part in ("backbone", "pixel decoder", "decoder"):
        # Position codes and biases are made once for all frames.
        assert three["parts"][part]["inference_flops"] == pytest.approx(
            one["parts"][part]["inference_flops"], rel=0.05
        )
    assert one["uncounted"] == {} and "share of inference is" in cost_table(one)


def test_the_line_is_fitted_tested_and_extended(tiny_cfg):
    peaks = {1: 110, 2: 120, 3: 130, 5: 160}
    assert LinearModel.fit({1: 110, 3: 130})(10) == pytest.approx(200)
    with pytest.raises(BenchmarkError, match="two frame counts"):
        LinearModel.fit({1: 110})
    report = fit_report(tiny_cfg, peaks, held_out=[5], batch=3, frames=2)
    assert report["fixed_bytes"] == pytest.approx(100) and report["bytes_per_frame"] == pytest.approx(10)
    # 150 predicted for 160 measured.
    assert report["held_out"]["5"]["error"] == pytest.approx(-1 / 16)
    recipe = report["recipe"]
    assert recipe["frames"] == 6 and recipe["fp32"] == pytest.approx(160)
    assert recipe["amp"] == pytest.approx(100 + report["amp_ratio"] * 60) and 0.4 < report["amp_ratio"] < 1
    assert recipe["fp32_from_shapes"] == held_bytes(trace(tiny_cfg, clips=3, frames=2, train=True))
    assert "No GPU was measured" in fit_text(report) and "measured 0 MiB, predicted 0 MiB, error -6." in fit_text(
        report
    )


@pytest.mark.slow
def test_more_frames_need_more_memory_in_steps_that_are_measured():
    config = str(CONFIGS / "synth" / "quickstart.yaml")
    peaks = measure_peaks(config, [], [8, 40], threads=1, progress=False)
    per_frame = LinearModel.fit(peaks).per_frame
    found = trace(load_cfg(config, ["INPUT.FRAMES_PER_CLIP", "0"]), frames=40, train=True, fused=False)
    kept = sum(found.saved.values()) / found.frames
    # Saved tensors, plus gradients and workspaces of the pass.
    assert kept < per_frame < 3 * kept


def compare_with_golden(name: str) -> None:
    golden, found = read_golden()[name], complexity(name)
    assert set(found) == set(golden)
    for part, row in found.items():
        for key, value in row.items():
            # Parameters must be exact. FLOPs may differ by millionths: position tables may be cached.
            tolerance = 1e-3 if key.endswith("flops") else 0
            hint = f"{part}, {key}: if this is wanted, run tools/analyze_model.py --update-golden"
            assert value == pytest.approx(golden[part][key], rel=tolerance), hint


def test_golden_counts_are_of_the_paper_configs():
    golden = read_golden()
    assert set(golden) == set(PAPER_CONFIGS)
    compare_with_golden("s4/r50")
    swin = golden["s4/swin_b_384"]["backbone"]
    # Liu et al., ICCV 2021: 47.0 G multiply-adds and 88 M parameters at 384 x 384, classifier included.
    assert swin["inference_flops"] / 2 == pytest.approx(47.0e9, rel=0.01)
    assert swin["parameters"] == pytest.approx(88e6, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER_CONFIGS)
def test_golden_counts(name):
    compare_with_golden(name)
