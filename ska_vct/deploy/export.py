"""Trained models for other programs: slim safetensors, ONNX, torch.export (``tools/export.py``)."""

import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch.export import Dim

from ska_vct.checkpoint.writing import save_slim
from ska_vct.config_files import portable_config
from ska_vct.engine.pretrained import find_cfg
from ska_vct.engine.weights import build_trained_model
from ska_vct.utils.errors import SkaVctError
from ska_vct.utils.files import atomic_path

from .network import InferenceNetwork, example_inputs, exportable, rounded_size

_ENDINGS = {"safetensors": ".safetensors", "onnx": ".onnx", "torch": ".pt2"}
_EXAMPLE_FRAMES, _CHECKED_FRAMES = 3, 5
_OPSET = 20
# Relative to the largest score: fp32 in another order of operations.
TOLERANCE = 1e-3


class ExportError(SkaVctError, ValueError):
    """A model cannot be exported, or the exported one does not answer as the model does."""


def export(
    weights: str | os.PathLike,
    out: str | os.PathLike,
    *,
    to: str,
    config_file: str | os.PathLike = "",
    overrides: Sequence[str] = (),
    dynamic_size: bool = False,
    half: bool = False,
) -> list[str]:
    """Write a trained model for other programs, and compare the result with the model.

    Args:
        weights: checkpoint, or an address of one.
        out: file to write.
        to: one of ``FORMATS``.
        config_file: the checkpoint's config; empty for the one inside it.
        overrides: KEY, VALUE, ...
        dynamic_size: an ONNX or torch graph for any image size, not only ``INPUT.SIZE``.
        half: safetensors at half the size, see :func:`ska_vct.checkpoint.writing.save_slim`.

    Returns:
        lines for the user: what was written, and the largest difference from the model's result.

    Raises:
        ExportError: the model cannot be exported, or a file's ending does not fit.
        ConfigError, CheckpointError, OSError: the input is wrong; see there.
    """
    if half and to != "safetensors":
        raise ExportError("--half is for --to safetensors; leave it out.")
    ending, out, weights = _ENDINGS[to], os.fspath(out), os.fspath(weights)
    if Path(out).suffix != ending:
        raise ExportError(f"--out must end in '{ending}' for --to {to}, found '{out}'.")
    cfg = find_cfg(weights, config_file, overrides, device="cpu")
    cfg.MODEL.COMPILE = False
    model = build_trained_model(cfg)
    if to == "safetensors":
        entries = save_slim(out, model.state_dict(), config=portable_config(cfg), half=half)
        return [f"{out}: {entries} entries and the config, {os.path.getsize(out) / 2**20:.1f} MiB"]
    network = InferenceNetwork(model=model, output_size=cfg.INPUT.EVAL_SIZE).eval()
    program = make_program(cfg, network, dynamic_size=dynamic_size)
    if to == "onnx":
        write_onnx(cfg, network, program, out)
        difference = compare(cfg, network, lambda inputs: run_onnx(out, inputs), dynamic_size)
    else:
        with atomic_path(out) as temporary:
            torch.export.save(program, temporary, extra_files={"config.yaml": portable_config(cfg)})
        with warnings.catch_warnings():
            # Of weights that share memory with none.
            warnings.filterwarnings("ignore", message="No complete tensor found")
            loaded = torch.export.load(out).module()
        difference = compare(cfg, network, lambda inputs: loaded(**inputs), dynamic_size)
    inputs = example_inputs(cfg, network, frames=1, size=rounded_size(cfg.INPUT.SIZE))
    shapes = ", ".join(f"{name} {_shown(value, dynamic_size)}" for name, value in inputs.items())
    return [
        f"{out}: {shapes}; {os.path.getsize(out) / 2**20:.1f} MiB",
        f"largest difference {difference:.1e}",
    ]


def make_program(cfg: CfgNode, network: InferenceNetwork, *, dynamic_size: bool) -> torch.export.ExportedProgram:
    """``network`` as a graph for any number of frames.

    Args:
        cfg: its config.
        network: the network.
        dynamic_size: also for any image size that is a multiple of 32.

    Raises:
        ExportError: the backbone fixes the size.
    """
    if dynamic_size and cfg.MODEL.BACKBONE.NAME == "build_swin_backbone":
        raise ExportError(
            "Swin's windows fix the image size in an exported graph; leave out --dynamic-size and set "
            "INPUT.SIZE, or use a timm backbone (MODEL.BACKBONE.NAME build_timm_backbone)."
        )
    size = _example_size(cfg, dynamic_size)
    inputs = example_inputs(cfg, network, frames=_EXAMPLE_FRAMES, size=size)
    frames = Dim("frames", min=1, max=4096)
    height, width = (32 * Dim(f"{name}_32", min=2, max=64) for name in ("height", "width"))
    shapes: dict[str, dict] = {name: {0: frames} for name in inputs}
    if dynamic_size:
        for name in {"images", "pre_masks"} & inputs.keys():
            shapes[name] |= {2: height, 3: width}
    with torch.no_grad(), exportable():
        return torch.export.export(network, (), kwargs=inputs, dynamic_shapes=_complete(shapes, network))


def write_onnx(cfg: CfgNode, network: InferenceNetwork, program: torch.export.ExportedProgram, path: str) -> None:
    """Write ``program`` as ONNX, with its config among the metadata.

    Raises:
        ExportError: ONNX is not installed.
    """
    _need("onnx", "onnxscript", "onnxruntime")
    with exportable():
        onnx_program = torch.onnx.export(
            program,
            input_names=network.input_names,
            output_names=["sem_seg"],
            opset_version=_OPSET,
            verbose=False,
        )
    onnx_program.model.metadata_props["ska_vct.config"] = portable_config(cfg)
    with atomic_path(path) as temporary:
        onnx_program.save(temporary)


def run_onnx(path: str, inputs: Mapping[str, Tensor]) -> Tensor:
    """What onnxruntime answers on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {name: value.numpy() for name, value in inputs.items()})[0])


def compare(cfg: CfgNode, network: nn.Module, other, dynamic_size: bool) -> float:
    """Largest difference between two networks, relative to the largest score, on frames (and a size) not exported.

    Raises:
        ExportError: it is beyond ``TOLERANCE``.
    """
    size = rounded_size(cfg.INPUT.SIZE)
    if dynamic_size:
        size = (size[0] + 32, size[1] + 64)
    inputs = example_inputs(cfg, network, frames=_CHECKED_FRAMES, size=size)
    with torch.no_grad():
        wanted = network(**inputs)
        found = other(inputs)
    difference = float((found - wanted).abs().max() / wanted.abs().max())
    if not difference <= TOLERANCE:
        raise ExportError(
            f"The exported network answers {difference:.1e} (relative) away from the model, over {TOLERANCE:g}; "
            "the file was written, but do not use it."
        )
    return difference


def _example_size(cfg: CfgNode, dynamic_size: bool) -> tuple[int, int]:
    height, width = rounded_size(cfg.INPUT.SIZE)
    # Two sides that differ from one another and from the mixer's grid, so that no coincidence becomes a rule.
    return (height + 64, width + 96) if dynamic_size else (height, width)


def _complete(shapes: dict[str, dict], network: InferenceNetwork) -> dict[str, dict | None]:
    return {name: shapes.get(name) for name in network.input_names}


def _shown(value: Tensor, dynamic_size: bool) -> str:
    sides = ["N", *map(str, value.shape[1:])]
    if dynamic_size and value.dtype == torch.uint8:
        sides[2:] = ["32a", "32b"]
    return f"({', '.join(sides)})"


def _need(*modules: str) -> None:
    import importlib.util

    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(
            f"ONNX needs {', '.join(missing)}: pip install 'ska_vct[export]', or pip install {' '.join(missing)}."
        )
