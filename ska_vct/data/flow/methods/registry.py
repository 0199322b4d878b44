"""The ways to compute flow, by name.

=============  =========================================================================  ==================
name           what it is                                                                 needs
=============  =========================================================================  ==================
``dis``        Dense Inverse Search, medium (Kroeger et al., ECCV 2016), OpenCV           nothing
``farneback``  polynomial expansion (Farneback, SCIA 2003), OpenCV                        nothing
``raft_large`` recurrent all-pairs field transforms (Teed and Deng, ECCV 2020)            weights, a GPU
``raft_small`` the same, a fifth of the parameters                                        weights, a GPU
``truth``      what the generator of synthetic clips knows (``ska_vct.synth.true_flow``)      synthetic clips
=============  =========================================================================  ==================
"""

import os
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from detectron2.utils.registry import Registry

from ska_vct.data.flow.methods.base import DisFlow, FlowMethod, to_gray
from ska_vct.data.flow.store import FlowError

RAFT = ("raft_large", "raft_small")
# Takes build_flow_method's keyword arguments and ignores those it has no use for.
FlowBuilder = Callable[..., FlowMethod]


class FarnebackFlow(FlowMethod):
    """OpenCV's Farneback: three levels of half the size, windows of 15 pixels."""

    name = "farneback"

    def between(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        options = {
            "pyr_scale": 0.5, "levels": 3, "winsize": 15, "iterations": 3, "poly_n": 7, "poly_sigma": 1.5,
            "flags": cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
        }  # fmt: skip
        fields = [
            cv2.calcOpticalFlowFarneback(to_gray(a), to_gray(b), None, **options)
            for a, b in zip(first, second, strict=True)
        ]
        return np.stack(fields).transpose(0, 3, 1, 2)


# Builders by method name, called with build_flow_method's keyword arguments. Add one with register_flow_method;
# importing ska_vct.synth.true_flow adds ``truth``.
FLOW_METHOD_REGISTRY = Registry("FLOW_METHOD")


def register_flow_method(name: str) -> Callable[[FlowBuilder], FlowBuilder]:
    """Decorator: register a module-level function as the builder of method ``name``."""

    def register(builder: FlowBuilder) -> FlowBuilder:
        FLOW_METHOD_REGISTRY._do_register(name, builder)
        return builder

    return register


def flow_method_names() -> tuple[str, ...]:
    """Names of the registered methods, in order of registration."""
    return tuple(name for name, _ in FLOW_METHOD_REGISTRY)


def flow_method_builder(name: str) -> FlowBuilder:
    """The builder registered under ``name``; it can be pickled, so worker processes need no registry of their own.

    Raises:
        FlowError: no method has this name; lists those there are.
    """
    if name not in FLOW_METHOD_REGISTRY:
        raise FlowError(f"There is no flow method '{name}'; choose one of {', '.join(flow_method_names())}.")
    return FLOW_METHOD_REGISTRY.get(name)


def build_flow_method(
    name: str,
    *,
    weights: str | os.PathLike = "",
    device: str = "cpu",
    batch_size: int = 8,
    root: str | os.PathLike = "",
    subset: str = "",
) -> FlowMethod:
    """Build a method by its name.

    Args:
        name: one of :func:`flow_method_names`.
        weights: RAFT's weights as a file; empty for torchvision's own, which it downloads once.
        device: where RAFT runs.
        batch_size: image pairs per RAFT call.
        root, subset: the synthetic release whose true flow is asked for.

    Raises:
        FlowError: an unknown name, weights that are missing, do not fit or are not wanted.
    """
    builder = flow_method_builder(name)
    return builder(weights=weights, device=device, batch_size=batch_size, root=root, subset=subset)


def refuse_weights(name: str, weights: str | os.PathLike) -> None:
    """Raise for weights given to a method that has none.

    Raises:
        FlowError: ``weights`` is not empty.
    """
    if weights:
        raise FlowError(f"Flow method '{name}' has no weights; leave {weights} away, or choose a RAFT method.")


def _build_raft(
    name: str, *, weights: str | os.PathLike = "", device: str = "cpu", batch_size: int = 8, **_
) -> FlowMethod:
    # Not at the top: torchvision's models take seconds to import, and data loaders come here too.
    from ska_vct.data.flow.methods.raft import RaftFlow

    return RaftFlow.pretrained(name, weights=weights, device=device, batch_size=batch_size)


def _build_classical(name: str, *, weights: str | os.PathLike = "", **_) -> FlowMethod:
    refuse_weights(name, weights)
    return CLASSICAL[name]()


# Fast on a CPU and without weights, so a data loader may compute them on the fly.
CLASSICAL = {"dis": DisFlow, "farneback": FarnebackFlow}
for _name in RAFT:
    register_flow_method(_name)(partial(_build_raft, _name))
for _name in CLASSICAL:
    register_flow_method(_name)(partial(_build_classical, _name))
