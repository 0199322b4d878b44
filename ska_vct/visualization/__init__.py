"""Pictures and films of clips and predictions; nothing here computes a score."""

from .contact_sheet import contact_sheet, index_sheet, prediction_labels
from .pictures import flow_to_image, heat, label_palette, overlay_heat, overlay_labels
from .video import write_overlay_video

__all__ = [
    "contact_sheet",
    "flow_to_image",
    "heat",
    "index_sheet",
    "label_palette",
    "overlay_heat",
    "overlay_labels",
    "prediction_labels",
    "write_overlay_video",
]
