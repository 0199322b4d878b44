"""Clips composed of photographs and recordings, in AVSBench's layout (docs/composites.md)."""

from ska_vct.utils.lazy import lazy_names

_HOMES = {
    "COMPOSITE_KINDS": "settings",
    "CompositeSettings": "settings",
    "generate_composites": "generate",
    "make_release": "release",
    "prepare_sources": "prepare",
}
__all__ = [*_HOMES]
__getattr__ = lazy_names(__name__, _HOMES)
