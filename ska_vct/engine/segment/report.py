"""What became of a video that was segmented to files."""

from dataclasses import dataclass, field


@dataclass(kw_only=True)
class VideoReport:
    """What became of a video.

    Attributes:
        name: of its folder of results.
        source: its path.
        frames: segmented.
        seconds: that they stand for.
        size: height and width.
        files: kind to name in its folder.
        classes: class to the share of frames that show it.
        remarks: what is unusual, one sentence each.
        spent: seconds by stage, see ``Segmentation``.
        error: why there are no results, one sentence.
        kept: an earlier run has made them.
    """

    name: str
    source: str
    frames: int = 0
    seconds: float = 0.0
    size: list[int] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    classes: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    spent: dict[str, float] = field(default_factory=dict)
    error: str = ""
    kept: bool = False
