"""Settings of composites; equal settings and sources give equal clips."""

from dataclasses import asdict, dataclass, field

from ska_vct.data.facts import SPLITS
from ska_vct.data.flow.names import MIN_SIDE
from ska_vct.synth.settings import check_facts, check_scenes

# Incremented whenever the same settings would give other clips.
COMPOSITES_VERSION = 1
SUBSET = "ms3"
SECONDS = 5

# kind -> content of a clip of this kind
COMPOSITE_KINDS = {
    "plain": "a sounding object, often large and cut by the frame, at times with a silent, still one of another "
    "kind",
    "twin": "a sounding object and a silent, still one of the same look",
    "mover": "a sounding object and a silent one, of the same look in half of the clips, that moves and rests in "
    "a rhythm of its own",
    "several": "two sounding objects, each with its own recording",
    "quiet": "a sounding object that does not move, at times with a silent one that does",
    "offscreen": "silent objects, still or moving, and the recording of another thing",
    "silence": "one or two moving objects and no sound",
    "camera": "like plain, twin or mover, with a camera that pans, zooms and shakes",
}


def _shares() -> dict[str, float]:
    # Looks alone cannot tell in twin, mover, offscreen, silence and most of camera: two thirds of the clips.
    return {
        "plain": 0.2, "twin": 0.2, "mover": 0.24, "several": 0.08, "quiet": 0.05, "offscreen": 0.07,
        "silence": 0.05, "camera": 0.11,
    }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CompositeSettings:
    """Settings of a release of composites.

    Attributes:
        train, val, test: clips per split.
        size: height and width of the images, even.
        seed: of all random draws.
        scenes: kind -> share of the clips (shares need not add up to 1).
        fps: images per second of the videos, from which flow is computed too.
        series: stored flow fields per second.
        flow_size: side of the flow fields.
        shake: probability of a slightly shaking camera where the kind asks for none.
        close: probability that a single object fills 40 to 80 % of the image.
        occluder: probability that something silent hides a part of the scene.
        partial: probability that only a part of an object moves.
        rest: probability that an object is silent and still for a second or two.
        lag: largest delay of the sound behind the motion, seconds.
        dubbed: probability that a clip's objects have the looks of silent cut-outs and the recordings of others.
        sources: folder that holds ``sources``, relative to the release.
    """

    train: int = 0
    val: int = 0
    test: int = 0
    size: int = 160
    seed: int = 0
    scenes: dict[str, float] = field(default_factory=_shares)
    fps: int = 10
    series: int = 10
    flow_size: int = 24
    shake: float = 0.25
    close: float = 0.5
    occluder: float = 0.12
    partial: float = 0.5
    rest: float = 0.25
    lag: float = 0.1
    dubbed: float = 0.0
    sources: str = "."

    def __post_init__(self):
        checks = (
            (min(self.counts.values()) >= 0 and sum(self.counts.values()) > 0, "at least one clip in some split",
             f"train {self.train}, val {self.val}, test {self.test}"),
            (self.size % 2 == 0 and self.size >= MIN_SIDE, f"an even size of at least {MIN_SIDE}", self.size),
            (self.seed >= 0, "a seed that is not negative", self.seed),
            (4 <= self.fps <= 60, "4 to 60 images per second", self.fps),
            (1 <= self.series <= self.fps, "a series from 1 to the images per second", self.series),
            (self.flow_size >= 1, "a flow size of at least 1", self.flow_size),
            (0 <= self.lag <= 0.5, "a lag from 0 to 0.5 s", self.lag),
            *((0 <= getattr(self, name) <= 1, f"a probability {name}", getattr(self, name))
              for name in ("shake", "close", "occluder", "partial", "rest", "dubbed")),
        )  # fmt: skip
        check_facts("Composites", checks)
        check_scenes("Kinds of composites", self.scenes, COMPOSITE_KINDS)

    @property
    def subset(self) -> str:
        """Composites are written in MS3's layout: any object, all frames annotated."""
        return SUBSET

    @property
    def counts(self) -> dict[str, int]:
        """Clips per split."""
        return {split: getattr(self, split) for split in SPLITS}

    def to_json(self) -> dict:
        """Plain values, including the generator's version."""
        values = asdict(self)
        if not self.dubbed:
            # Releases from before this setting hold the same clips and can be continued.
            del values["dubbed"]
        return {"composites_version": COMPOSITES_VERSION, **values}
