"""Runs the model on fake tensors, which have shapes and types but no data and so need no memory at any size.

The model is on PyTorch's fake CPU. Host code that depends on values (the batch, the targets, the assignment) runs
on real tensors, and its results are then converted to fake tensors.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest import mock

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import _disable_current_modes

from ska_vct.engine.trainer import Trainer
from ska_vct.modeling import meta_arch
from ska_vct.modeling.batch import FrameBatch, collate_clips
from ska_vct.modeling.losses import criterion as criterion_module
from ska_vct.modeling.losses import targets as targets_module
from ska_vct.modeling.losses.targets import Targets


def build_without_data(cfg: CfgNode) -> nn.Module:
    """Build the model of ``cfg`` with its parameters on PyTorch's ``meta`` device, where they need no memory."""
    cfg = cfg.clone()
    cfg.defrost()
    # Whatever device the config names.
    cfg.MODEL.DEVICE = "cpu"
    register = nn.Module.register_parameter

    def register_on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        if parameter is not None:
            parameter = nn.Parameter(parameter.to("meta"), requires_grad=parameter.requires_grad)
        register(module, name, parameter)

    with mock.patch.object(nn.Module, "register_parameter", register_on_meta), _no_data_moves():
        return Trainer.build_model(cfg)


@contextmanager
def _no_data_moves() -> Iterator[None]:
    # Parameters on the meta device cannot be moved to a real device.
    with mock.patch.object(nn.Module, "to", lambda module, *args, **kwargs: module):
        yield


def make_fake(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Turn parameters and buffers of ``model`` into fake tensors on the CPU, in place."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                with mode:
                    empty = torch.empty(parameter.shape, dtype=parameter.dtype)
                module._parameters[name] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = mode.from_tensor(buffer)
    return model


@contextmanager
def fake_run(model: nn.Module) -> Iterator[FakeTensorMode]:
    """Make ``model`` fake within the block, so that it accepts real clips; enter other modes inside the block."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    mean, std = model.pixel_mean, model.pixel_std
    make_fake(model, mode)
    with ExitStack() as stack:
        patch = stack.enter_context

        def collate(clips, *, pixel_mean, pixel_std, **options) -> FrameBatch:
            batch = collate_clips(clips, pixel_mean=mean, pixel_std=std, **options)
            # The host reads the label maps later.
            return _fake_fields(batch, mode, keep=("labels",))

        patch(mock.patch.object(meta_arch, "collate_clips", _on_host(collate)))
        targets = _on_host(Targets.from_label_maps, mode)
        patch(mock.patch.object(Targets, "from_label_maps", targets))
        indices = _on_host(targets_module.index_targets, mode)
        patch(mock.patch.object(targets_module, "index_targets", indices))
        patch(mock.patch.object(meta_arch, "sounding_classes", _on_host(meta_arch.sounding_classes, mode)))
        patch(
            mock.patch.object(criterion_module, "assign", _on_host(_any_assignment(criterion_module.assign), mode))
        )
        patch(mode)
        yield mode


def _any_assignment(assign: Callable) -> Callable:
    # The number of pairs does not depend on the costs.
    return lambda cost, counts: assign(torch.zeros(cost.shape), counts)


def _on_host(function: Callable, mode: FakeTensorMode | None = None) -> Callable:
    """Run ``function`` on real tensors outside all dispatch modes; with ``mode``, make its result fake."""

    @wraps(function)
    def run(*args, **kwargs):
        with _disable_current_modes():
            result = function(*args, **kwargs)
            return result if mode is None else _to_fake(result, mode)

    return run


def _to_fake(value: Any, mode: FakeTensorMode) -> Any:
    if isinstance(value, tuple):
        return tuple(_to_fake(item, mode) for item in value)
    if isinstance(value, FakeTensor) or not (isinstance(value, Tensor) or hasattr(value, "__dataclass_fields__")):
        return value
    return mode.from_tensor(value) if isinstance(value, Tensor) else _fake_fields(value, mode)


def _fake_fields(record: Any, mode: FakeTensorMode, keep: tuple[str, ...] = ()) -> Any:
    fields = {name: getattr(record, name) for name in record.__dataclass_fields__}
    return type(record)(
        **{name: value if name in keep else _to_fake(value, mode) for name, value in fields.items()}
    )
