"""The splits of the benchmark of physical consistency (docs/benchmark.md), with their published digests."""

from dataclasses import dataclass, field

from ska_vct.data.facts import SPLITS
from ska_vct.synth.settings import SynthSettings

SUBSET = "ms3"


@dataclass(frozen=True, kw_only=True)
class BenchmarkSplit:
    """One folder of the benchmark, an ordinary synthetic MS3 release.

    Attributes:
        name: of the folder.
        seed: of all its random draws.
        scenes: scene kind -> share.
        train, val, test: clips.
        published: split -> expected result of ``digest_split``.
    """

    name: str
    seed: int
    scenes: dict[str, float]
    train: int = 0
    val: int = 0
    test: int = 0
    published: dict[str, dict] = field(default_factory=dict)

    @property
    def settings(self) -> SynthSettings:
        """The generator's settings."""
        counts = {split: getattr(self, split) for split in SPLITS}
        return SynthSettings(subset=SUBSET, size=96, seed=self.seed, scenes=self.scenes, **counts)


def _contents(clips: int, scenes: str, sound: str, masks: str, objects: str, pixels: int, mean: float) -> dict:
    digests = {"scenes": scenes, "sound": sound, "masks": masks, "objects": objects}
    return {"clips": clips, **digests, "mask_pixels": pixels, "picture_mean": mean}


# fmt: off
_PUBLISHED = {
    ("train", "train"): _contents(
        1200, "5a5db12b1ee5fa90", "275f1f83b76d2726", "5982c933c0d0a719", "b45505f70490bc5f", 3938485, 105.767),
    ("train", "val"): _contents(
        90, "2e8ca9ebe30ae8eb", "2c4813c3ab442804", "713b6358718d65fd", "22ba6791109b25b9", 294251, 107.516),
    ("plain", "test"): _contents(
        150, "186a575d36ecd5f2", "c79f257f36ec48a8", "5b55b37e74bd593a", "e4e1cad79ac8f8b3", 552685, 106.784),
    ("silent-twin", "test"): _contents(
        150, "b439cf2199a006e8", "9f0cadf8e223d19e", "af52effa9558dcae", "b67e93a2c4a4c9ac", 426573, 106.2),
    ("silent-mover", "test"): _contents(
        150, "f4cdab6f80ebed31", "b97831681459ac95", "dea3e14844b03ca2", "b988c31d052f6915", 428351, 105.927),
    ("camera-motion", "test"): _contents(
        150, "ab86f975dee47878", "0e81c7525f85bfc8", "fd3f2a7f9a6714d9", "bbaefb0eac019128", 556434, 107.488),
    ("weak-motion", "test"): _contents(
        150, "918bc8aff9001b28", "2a8178f2d0a3e1bd", "28b5c2f1a28153cc", "47330476c4a01a43", 580489, 107.921),
    ("off-screen", "test"): _contents(
        150, "c31d52844cc10d42", "6beeb3e54fce8f9a", "cc236a7aa42b9a8f", "c0e43f307b0ea4b8", 0, 107.099),
}


def _split(name: str, seed: int, scenes: dict[str, float], **counts: int) -> BenchmarkSplit:
    return BenchmarkSplit(
        name=name, seed=seed, scenes=scenes, **counts,
        published={part: _PUBLISHED[name, part] for part in SPLITS if part in counts},
    )


BENCHMARK = {
    split.name: split
    for split in (
        _split("train", 100, {"plain": 0.5, "twin": 0.25, "mover": 0.25}, train=1200, val=90),
        _split("plain", 201, {"plain": 1.0}, test=150),
        _split("silent-twin", 202, {"twin": 1.0}, test=150),
        _split("silent-mover", 203, {"mover": 1.0}, test=150),
        _split("camera-motion", 204, {"camera": 1.0}, test=150),
        _split("weak-motion", 205, {"weak": 1.0}, test=150),
        _split("off-screen", 206, {"offscreen": 1.0}, test=150),
    )
}
# fmt: on
TEST_SPLITS = tuple(name for name, split in BENCHMARK.items() if split.test)
