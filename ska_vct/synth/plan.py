"""Plans each clip of a synthetic release from settings, split and index, independently of the others."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from ska_vct.data.avsbench.subsets import AVSS_CLASSES, SUBSETS
from ska_vct.data.facts import SPLITS, expand
from ska_vct.data.registry import get_facts
from ska_vct.synth.kinds import SCENE_KINDS
from ska_vct.synth.scene import Scene, draw_scene
from ska_vct.synth.settings import SynthSettings

GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, kw_only=True)
class ClipPlan:
    """One clip before it is drawn.

    Attributes:
        clip_id: as named by the readers: ``{split}/{category}/{name}``, ``{split}/{name}`` or ``{label}/{uid}``.
        name: S4's and MS3's name, AVSS's uid.
        vid: AVSS's video name.
        category: S4's category, else None.
        label: AVSS's folder, else None.
    """

    subset: str
    split: str
    clip_id: str
    name: str
    vid: str
    category: str | None
    label: str | None
    scene: Scene

    @property
    def sounding_classes(self) -> list[str]:
        """AVSS classes of all sounds, in the order of AVSS's classes."""
        return sorted({source.object_class.avss for source in self.scene.sources}, key=AVSS_CLASSES.index)

    def row(self) -> dict[str, str]:
        """The clip's row in the table of synthetic clips."""
        objects = self.scene.objects
        return {
            "clip_id": self.clip_id,
            "split": self.split,
            "name": self.name,
            "kind": self.scene.kind,
            "classes": " ".join(item.object_class.avss for item in objects),
            "roles": " ".join(item.role for item in objects),
            "sounds": " ".join(self.sounding_classes),
            "seconds": str(self.scene.seconds),
        }


def plan_clip(settings: SynthSettings, split: str, index: int) -> ClipPlan:
    """Plan clip ``index`` of ``split``, independently of the number of clips and of the process."""
    subset = get_facts(settings.subset)
    key = [settings.seed, list(SUBSETS).index(subset.name), SPLITS.index(split)]
    rng = np.random.default_rng([*key, 1 + index])
    starts = np.random.default_rng([*key, 0]).random(2)
    # Steps of the golden ratio cover [0, 1) evenly for any number of clips, so shares are met closely.
    kind = by_share(settings.scenes, SCENE_KINDS, (starts[0] + index * GOLDEN) % 1)
    label = None
    if subset.label_frames:
        labels = [name for name in subset.label_frames if settings.seconds in (0, subset.clip_frames(name))]
        # Another irrational step, so that kinds and labels are independent.
        label = labels[int((starts[1] + index * 2**0.5) % 1 * len(labels))]
    multi = label not in subset.single_source
    scene = draw_scene(
        rng,
        kind,
        settings.scene_options(split, multi=multi),
        seconds=subset.clip_frames(label),
        height=settings.height,
        width=settings.width,
    )
    vid = f"{kind}_{split}_{index:05d}"
    category = scene.sources[0].object_class.category if subset.categories else None
    name = f"{vid}_0_{scene.seconds}" if label else vid
    values = {"split": split, "category": category, "label": label, "name": name}
    return ClipPlan(
        subset=subset.name,
        split=split,
        clip_id=expand(subset.clip_id, values),
        name=name,
        vid=vid,
        category=category,
        label=label,
        scene=scene,
    )


def by_share(shares: Mapping[str, float], order: Iterable[str], position: float) -> str:
    """The kind at ``position`` (0..1) if kinds lie side by side in ``order``, as wide as their shares."""
    kinds = [kind for kind in order if shares.get(kind, 0) > 0]
    ends = np.cumsum([shares[kind] for kind in kinds])
    return kinds[min(int(np.searchsorted(ends / ends[-1], position, side="right")), len(kinds) - 1)]
