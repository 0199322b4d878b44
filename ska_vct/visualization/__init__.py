"""Images and videos of clips and predictions; nothing here computes a score."""

from .clip_rows import prediction_labels
from .colors import label_palette
from .contact_sheet import contact_sheet, index_sheet, overview_row
from .images import flow_to_image, heat, overlay_heat, overlay_labels, overlay_outcomes
from .video import write_overlay_video

__all__ = [
    "contact_sheet",
    "flow_to_image",
    "heat",
    "index_sheet",
    "label_palette",
    "overlay_heat",
    "overlay_labels",
    "overlay_outcomes",
    "overview_row",
    "prediction_labels",
    "write_overlay_video",
]
