"""The ways to compute flow, by name.

=============  =========================================================================  ==================
name           what it is                                                                 needs
=============  =========================================================================  ==================
``dis``        Dense Inverse Search, medium (Kroeger et al., ECCV 2016), OpenCV           nothing
``farneback``  polynomial expansion (Farneback, SCIA 2003), OpenCV                        nothing
``raft_large`` recurrent all-pairs field transforms (Teed and Deng, ECCV 2020)            weights, a GPU
``raft_small`` the same, a fifth of the parameters                                        weights, a GPU
``truth``      what the generator of synthetic clips knows                                synthetic clips
=============  =========================================================================  ==================
"""

import os

import cv2
import numpy as np

from ska_vct.data.flow import FlowError
from ska_vct.data.flow_compute import DisFlow, FlowMethod, to_gray

RAFT = ("raft_large", "raft_small")


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


# Quick on a CPU and without weights: what a data loader may compute on the fly.
CLASSICAL = {"dis": DisFlow, "farneback": FarnebackFlow}
FLOW_METHODS = (*RAFT, *CLASSICAL, "truth")


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
        name: one of ``FLOW_METHODS``.
        weights: RAFT's weights as a file; empty for torchvision's own, which it downloads once.
        device: where RAFT runs.
        batch_size: pairs of pictures that RAFT takes at once.
        root, subset: the synthetic release whose truth is asked for.

    Raises:
        FlowError: an unknown name, weights that are missing, do not fit or are not wanted.
    """
    if name not in FLOW_METHODS:
        raise FlowError(f"There is no flow method '{name}'; choose one of {', '.join(FLOW_METHODS)}.")
    if name in RAFT:
        # Not at the top: torchvision's models take seconds to import, and data loaders come here too.
        from ska_vct.data.flow_raft import RaftFlow

        return RaftFlow.pretrained(name, weights=weights, device=device, batch_size=batch_size)
    if weights:
        raise FlowError(f"Flow method '{name}' has no weights; leave {weights} away, or choose a RAFT method.")
    if name == "truth":
        from ska_vct.data.flow_truth import TrueFlow

        return TrueFlow(root=root, subset=subset)
    return CLASSICAL[name]()
