"""The Triton kernels equal ``grid_sample``, in Triton's interpreter.

It reads its switch when Triton is imported, so all cases run in one process of their own: this file as a script.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ska_vct.modeling.layers.deform_attn import deform_attn
from ska_vct.modeling.layers.deform_attn.grid import deform_attn_grid

ROOT = Path(__file__).resolve().parents[2]
LEVELS = [(1, 1), (3, 5), (7, 2)]
# Of a result that is stored in half precision: one unit in the last place, since the interpreter cuts off where a
# GPU rounds. Sums differ by their order, float32's rounding times some hundred terms.
UNIT = {"float64": 0.0, "float32": 0.0, "bfloat16": 2**-7, "float16": 2**-10}
ORDER = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-5, "float16": 1e-5}
# Levels, queries, heads, width, points, dtype.
CASES = {
    "one of each": ([(1, 1)], 1, 1, 1, 1, "float32"),
    "float64": (LEVELS, 11, 3, 8, 2, "float64"),
    "float32": (LEVELS, 11, 3, 8, 2, "float32"),
    "float16": (LEVELS, 11, 3, 8, 2, "float16"),
    "bfloat16": (LEVELS, 11, 3, 8, 2, "bfloat16"),
    "a width that is padded": (LEVELS, 5, 2, 12, 3, "float32"),
    "several blocks, the last not full": ([(4, 6)], 13, 1, 128, 1, "float32"),
    "as configured": ([(2, 2), (4, 4), (8, 8)], 20, 8, 32, 4, "float32"),
}


def largest_excess(case: str) -> float:
    """Largest difference of result and gradients over what is allowed."""
    shapes, queries, heads, dim, points, name = CASES[case]
    dtype = getattr(torch, name)
    real = torch.promote_types(dtype, torch.float32)
    torch.manual_seed(0)
    # Not contiguous, as a module may hand them over.
    value = torch.randn(2, heads, sum(h * w for h, w in shapes), dim).transpose(1, 2).to(dtype)
    locations = torch.rand(2, queries, heads, len(shapes), points, 2, dtype=real) * 2 - 0.5
    weights = torch.rand(2, queries, heads, len(shapes), points).to(dtype)
    seed = torch.randn(2, heads * dim, queries).transpose(1, 2).to(dtype)
    given = [x.requires_grad_() for x in (value, locations, weights)]
    exact = [x.detach().double().requires_grad_() for x in given]
    found = deform_attn(given[0], shapes, *given[1:], "triton")
    wanted = deform_attn_grid(exact[0], shapes, *exact[1:])
    pairs = zip(
        (found, *torch.autograd.grad(found, given, seed)),
        (wanted, *torch.autograd.grad(wanted, exact, seed.double())),
        (dtype, dtype, real, dtype),
        strict=True,
    )
    worst = 0.0
    for a, b, stored in pairs:
        if a.dtype != stored:
            return math.inf
        unit = UNIT[name] if stored == dtype else 0.0
        allowed = unit * b.abs() + ORDER[name] * b.abs().max().clamp(min=1)
        worst = max(worst, float(((a.double() - b).abs() / allowed).max()))
    return worst


def edges() -> dict:
    """Places on borders of cells, on the border of the map, outside, and such as are no number."""
    value = torch.arange(1.0, 7).view(1, 6, 1, 1).requires_grad_()
    places = [(1 / 6, 1 / 4), (0.0, 1 / 4), (0.0, 0.0), (1.0, 1.0), (-1 / 6, 1 / 4), (7 / 6, 1 / 4), (1e9, -1e30)]
    places += [(math.inf, 0.5), (math.nan, 0.5), (0.5, 0.5)]
    locations = torch.tensor(places).view(1, -1, 1, 1, 1, 2).requires_grad_()
    weights = torch.ones(1, len(places), 1, 1, 1, requires_grad=True)
    out = deform_attn(value, [(2, 3)], locations, weights, "triton")
    kept = list(range(7)) + [9]
    gradients = torch.autograd.grad(out[:, kept].sum(), (value, locations))
    return {
        "out": [None if math.isnan(x) else x for x in out.flatten().tolist()],
        "of_value": gradients[0].flatten().tolist(),
        "of_outside": gradients[1].view(-1, 2)[5:7].flatten().tolist(),
    }


@pytest.fixture(scope="module")
def interpreted() -> dict:
    pytest.importorskip("triton", reason="Triton is not installed (it is there on Linux)")
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, __file__], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("case", CASES)
def test_result_and_gradients_equal_those_of_grid_sample(interpreted, case):
    assert interpreted["excess"][case] <= 1


def test_edges(interpreted):
    edges = interpreted["edges"]
    # A cell; half a cell left of it; a corner of the map, on either side; outside.
    assert edges["out"][:7] == pytest.approx([1.0, 0.5, 0.25, 6 / 4, 0.0, 0.0, 0.0], abs=1e-5)
    # Between the two middle cells of both rows: (2 + 5) / 2. What is no number shows, and only there.
    assert edges["out"][9] == pytest.approx(3.5) and edges["out"][8] is None
    # Cell 1 is read with 1 + 1/2 + 1/4, cell 6 with 1/4, cells 2 and 5 with 1/2.
    assert edges["of_value"] == pytest.approx([1.75, 0.5, 0, 0, 0.5, 0.25], abs=1e-5)
    assert edges["of_outside"] == [0.0] * 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_kernels_compile_for_gpus_without_one(name):
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from ska_vct.modeling.layers.deform_attn import triton_kernels as kernels

    constants = {"HEADS": 8, "DIM": 32, "LEVELS": 3, "POINTS": 4, "BLOCK": 32, "WIDTH": 32}
    constants["EXACT"] = triton.language.float32
    fixed = {"levels": "*i32", "locations": "*fp32", "of_locations": "*fp32", "of_value": "*fp32"}
    fixed |= dict.fromkeys(("rows", "queries", "cells"), "i32") | dict.fromkeys(constants, "constexpr")
    for kernel in (kernels._forward_kernel, kernels._backward_kernel):
        signature = {argument: fixed.get(argument, f"*{name}") for argument in kernel.arg_names}
        source = ASTSource(kernel, signature, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})
        assert compiled.asm["cubin"]
        # Only the gradient by value is summed by several programs at once.
        assert ("red.global" in compiled.asm["ptx"]) == (kernel is kernels._backward_kernel)


if __name__ == "__main__":
    print(json.dumps({"excess": {case: largest_excess(case) for case in CASES}, "edges": edges()}))
