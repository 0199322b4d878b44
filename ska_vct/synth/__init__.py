"""Synthetic clips: physics in miniature, written in AVSBench's layouts (docs/benchmark.md)."""

from ska_vct.utils.lazy import lazy_names

_HOMES = {
    "ROLES": "kinds",
    "SCENE_KINDS": "kinds",
    "SynthError": "settings",
    "SynthSettings": "settings",
    "generate": "writer",
}
__all__ = [*_HOMES]
__getattr__ = lazy_names(__name__, _HOMES)
