"""Synthetic clips whose motion and sound follow one envelope, in AVSBench's layouts (docs/benchmark.md)."""

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
