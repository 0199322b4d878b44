"""Throughput of flow methods in clips per second, without file access."""

from collections.abc import Sequence

import numpy as np

from ska_vct.data.flow.methods.base import FlowMethod, ImagePairs, pair_flow
from ska_vct.data.flow.methods.registry import RAFT, build_flow_method
from ska_vct.data.registry import get_facts

from .clips import smooth_images
from .subject import Subject, case_cfg
from .work import BenchmarkError, Case, Clock, Work

_METHODS = ("dis", "farneback", *RAFT)


class FlowSubject(Subject):
    name = "flow"

    def options(
        self,
        *,
        device: str,
        methods: Sequence[str] = ("dis", "farneback"),
        series: int = 0,
        frames: int = 0,
        side: int = 384,
        batch: int = 8,
    ) -> Sequence[tuple[str, dict]]:
        """
        Args:
            methods: names of flow methods.
            series: fields per second; 0 for ``INPUT.FLOW.SERIES``.
            frames: frames per clip; 0 for the subset's.
            side: height and width of the images, pixels.
            batch: image pairs per RAFT call.
        """
        unknown = [method for method in methods if method not in _METHODS]
        if unknown:
            raise BenchmarkError(f"Cannot time flow method '{unknown[0]}'; choose one of {', '.join(_METHODS)}.")
        sizes = {"series": series, "frames": frames, "side": side, "batch": batch}
        return [(method, {**sizes, "method": method}) for method in methods]

    def build(self, case: Case) -> Work:
        cfg = case_cfg(case)
        options = case.options
        seconds = options["frames"] or get_facts(cfg.DATASETS.SUBSET).clip_frames()
        series = options["series"] or cfg.INPUT.FLOW.SERIES
        pairs = image_pairs(seconds, series, options["side"])
        method = _method(options["method"], case.device, options["batch"])
        size = tuple(cfg.INPUT.FLOW.SIZE)

        def run(clock: Clock) -> None:
            with clock():
                pair_flow(pairs, method, size)

        return Work(run=run, clips=1, frames=seconds, facts={"fields": seconds * series})


def image_pairs(seconds: int, series: int, side: int) -> ImagePairs:
    """Images of a clip in memory, with ``series`` consecutive pairs per second."""
    count = seconds * series
    return ImagePairs(
        images=smooth_images(count + 1, (side, side)),
        times=np.arange(count + 1) / series,
        first=np.arange(count),
        second=np.arange(1, count + 1),
        shape=(seconds, series),
        size=(side, side),
        fps=float(series),
        source="video",
    )


def _method(name: str, device: str, batch: int) -> FlowMethod:
    if name not in RAFT:
        return build_flow_method(name)
    # Imported here because torchvision's models take seconds to import.
    from ska_vct.data.flow.methods.raft import RAFT_MODELS, RaftFlow

    # Its speed does not depend on its weights.
    network = RAFT_MODELS[name][0](weights=None)
    return RaftFlow(model=network, name=name, weights="random", device=device, batch_size=batch)
