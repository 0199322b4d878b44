"""True flow of synthetic clips, recomputed by the generator: the reference for all other methods.

A synthetic release stores its settings next to its truth (``synth_truth/{subset}_settings.json``), from which
every clip and its motion between any two times can be reproduced exactly.
"""

import json
import os
import re
from functools import lru_cache
from pathlib import Path

import numpy as np

from ska_vct.data.facts import SPLITS
from ska_vct.data.flow.methods.base import FlowMethod, ImagePairs, shrink
from ska_vct.data.flow.methods.registry import refuse_weights, register_flow_method
from ska_vct.data.flow.store import FlowError
from ska_vct.synth.plan import plan_clip
from ska_vct.synth.render import Renderer
from ska_vct.synth.settings import GENERATOR_VERSION, SynthError, SynthSettings
from ska_vct.synth.truth import TRUTH_FOLDER

# {kind}_{split}_{number}, followed by the time span in AVSS
_NAME = re.compile(rf"_({'|'.join(SPLITS)})_(\d+)(?:_\d+_\d+)?$")


class TrueFlow(FlowMethod):
    """The generator's own flow as a method: it uses the times of the images, not their content.

    Args:
        root: of a synthetic release, as ``DATASETS.ROOT``.
        subset: ``s4``, ``ms3`` or ``avss``.

    Raises:
        FlowError: it is not a synthetic release, or was made by another version of the generator.
    """

    name = "truth"
    batch_size = 64

    def __init__(self, *, root: str | os.PathLike, subset: str):
        self.settings = _read_settings(Path(root) / TRUTH_FOLDER / f"{subset}_settings.json")
        self._renderer = lru_cache(maxsize=2)(self._draw)

    def fields(self, pairs: ImagePairs, chosen: np.ndarray) -> np.ndarray:
        moments = pairs.times[pairs.first[chosen]], pairs.times[pairs.second[chosen]]
        flow = self.renderer(pairs.clip_id).displacements(*moments)
        size = pairs.images.shape[1:3]
        if flow.shape[2:] == size:
            return flow
        scale = np.array([size[1] / flow.shape[3], size[0] / flow.shape[2]], np.float32)[:, None, None]
        return np.stack([shrink(field, size) for field in flow]) * scale

    def renderer(self, clip_id: str) -> Renderer:
        """The renderer of a clip.

        Raises:
            FlowError: the release does not contain the clip.
        """
        return self._renderer(clip_id)

    def _draw(self, clip_id: str) -> Renderer:
        found = _NAME.search(clip_id)
        plan = plan_clip(self.settings, found[1], int(found[2])) if found else None
        if plan is None or plan.clip_id != clip_id:
            raise FlowError(
                f"Clip '{clip_id}' does not belong to the synthetic release, so its true flow is unknown."
            )
        return Renderer(plan.scene, fps=self.settings.fps, flicker=self.settings.flicker)


@register_flow_method("truth")
def build_true_flow(
    *, weights: str | os.PathLike = "", root: str | os.PathLike = "", subset: str = "", **_
) -> TrueFlow:
    """Builder of method ``truth`` in ``FLOW_METHOD_REGISTRY``."""
    refuse_weights("truth", weights)
    return TrueFlow(root=root, subset=subset)


def _read_settings(path: Path) -> SynthSettings:
    try:
        values = json.loads(path.read_text())["settings"]
        version = values.pop("generator_version")
        settings = SynthSettings(**values)
    except OSError as error:
        raise FlowError(
            f"True flow is known for synthetic clips only, and {path} cannot be read ({error.strerror}); make "
            "clips with datasets/make_synth.py, or choose another method."
        ) from None
    except (ValueError, KeyError, TypeError, SynthError) as error:
        raise FlowError(f"{path} does not hold the settings of a synthetic release ({error}).") from None
    if version != GENERATOR_VERSION:
        raise FlowError(
            f"The release of {path} was made by version {version} of the generator, but this is version "
            f"{GENERATOR_VERSION}; make the release again to get its true flow."
        )
    return settings
