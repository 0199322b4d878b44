"""Synthetic clips: physics in miniature, written in AVSBench's layouts (docs/data.md, evidence.md)."""

from ska_vct.synth.scene import ROLES, SCENE_KINDS
from ska_vct.synth.settings import SynthError, SynthSettings
from ska_vct.synth.writer import generate

__all__ = ["ROLES", "SCENE_KINDS", "SynthError", "SynthSettings", "generate"]
