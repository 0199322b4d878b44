from .clip import CLIP_FIELDS, IGNORE_LABEL, UNKNOWN_CATEGORY, ClipError, validate_clip

__all__ = ["CLIP_FIELDS", "IGNORE_LABEL", "UNKNOWN_CATEGORY", "ClipError", "validate_clip"]
