"""One clip's flow, from its files to its file, always the same bytes whoever computes it and beside what else."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version

import av
import cv2
import numpy as np

from ska_vct.data.flow.frame_pairs import SingleImageError, read_pairs
from ska_vct.data.flow.methods.base import FlowMethod, ImagePairs, pair_flow
from ska_vct.data.flow.methods.registry import RAFT, flow_method_names
from ska_vct.data.flow.names import SOURCES
from ska_vct.data.flow.store import FLOW_VERSIONS, FlowError, FlowRecord, speed_limit, write_flow

# Speeds are stored up to this share of the limit, which rounding to float16 must not reach.
_BELOW = 0.99


@dataclass(frozen=True, kw_only=True)
class FlowRequest:
    """What flow is wanted; kept in every file, so that a run goes on only with files of its own kind.

    Attributes:
        method: of ``flow_method_names()``.
        source: ``auto``, ``video`` or ``frames``.
        series: fields per second of a video.
        size: side of the stored fields.
        bits: per stored value, 16 or 8.
        long_side: images are shrunk to this before, pixels; 0: never.
    """

    method: str = "dis"
    source: str = "auto"
    series: int = 10
    size: int = 48
    bits: int = 16
    long_side: int = 384

    def __post_init__(self):
        for value, choices, name in (
            (self.method, flow_method_names(), "method"),
            (self.source, SOURCES, "source"),
            (self.bits, FLOW_VERSIONS, "bits"),
        ):
            if value not in choices:
                raise FlowError(f"Flow {name} is '{value}'; choose one of {', '.join(map(str, choices))}.")
        for value, name, least in ((self.series, "series", 1), (self.size, "size", 1)):
            if value < least:
                raise FlowError(f"Flow {name} is {value}; it must be at least {least}.")
        if self.long_side < 0:
            raise FlowError(f"The long side is {self.long_side}; it must be 0 (images as they are) or more.")

    def to_meta(self) -> dict:
        """Plain values."""
        return asdict(self)


def read_clip(record: Mapping, request: FlowRequest) -> tuple[ImagePairs | None, str]:
    """Read what a clip's flow is computed from.

    Returns:
        the images, None where there is only one, and a remark where they are not what one would expect.

    Raises:
        FlowError: the clip has no usable images; one sentence that names clip or file.
    """
    try:
        return read_pairs(record, source=request.source, series=request.series, long_side=request.long_side)
    except SingleImageError as error:
        return None, f"{error} Its flow is zero."


def compute_clip(
    record: Mapping, request: FlowRequest, method: FlowMethod, pairs: ImagePairs | None
) -> FlowRecord:
    """Compute a clip's flow.

    Args:
        record: of ``load_records``.
        request: what is wanted.
        method: what ``request.method`` names, built.
        pairs: of :func:`read_clip`; None gives no motion.

    Raises:
        FlowError: the images are too small for the method.
    """
    if pairs is None:
        return _still(record, request, method)
    try:
        flow = pair_flow(pairs, method, (request.size, request.size))
    except FlowError as error:
        raise FlowError(f"Clip '{record['clip_id']}': {error}") from None
    meta = _meta(record, request, method) | {
        "fps": pairs.fps, "time_step": float(np.median(np.abs(pairs.steps))),
        "height": pairs.size[0], "width": pairs.size[1], "source": pairs.source,
    }  # fmt: skip
    # Where images follow each other too quickly for the method, its vectors mean nothing.
    limit = _BELOW * speed_limit(meta)
    return FlowRecord(flow=np.clip(flow, -limit, limit).astype(np.float16), meta=meta)


def compute_and_keep(record: Mapping, request: FlowRequest, method: FlowMethod) -> None:
    """Compute a clip's flow and write it where its record says; two processes at once write equal files.

    Raises:
        FlowError: the clip has no usable images, or the file cannot be written.
    """
    pairs, _ = read_clip(record, request)
    flow = compute_clip(record, request, method, pairs)
    try:
        write_flow(record["flow_path"], flow, bits=request.bits)
    except OSError as error:
        raise FlowError(
            f"Flow file {record['flow_path']} cannot be written ({error.strerror or error}); point "
            "INPUT.FLOW.ROOT to a folder with room that can be written to."
        ) from None


def _still(record: Mapping, request: FlowRequest, method: FlowMethod) -> FlowRecord:
    """No motion can be seen in one image; its size is of no importance to vectors of length zero."""
    flow = np.zeros((len(record["image_paths"]), 1, 2, request.size, request.size), np.float16)
    meta = {"fps": 1.0, "time_step": 1.0, "height": request.size, "width": request.size, "source": "none"}
    return FlowRecord(flow=flow, meta=_meta(record, request, method) | meta)


def _meta(record: Mapping, request: FlowRequest, method: FlowMethod) -> dict:
    return {
        "method": method.name,
        "weights": method.weights,
        "clip_id": record["clip_id"],
        "request": request.to_meta(),
        "software": software(method.name),
    }


def software(method: str) -> str:
    """Versions of the libraries that a method's result depends on."""
    if method == "truth":
        return f"numpy {np.__version__}"
    own = f"torch {version('torch')}, torchvision {version('torchvision')}"
    return f"PyAV {av.__version__}, opencv {cv2.__version__}" + (f", {own}" if method in RAFT else "")
