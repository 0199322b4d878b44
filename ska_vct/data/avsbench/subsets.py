"""AVSBench's three subsets as three records: the only place where they differ (spec: data.md, training.md)."""

from dataclasses import dataclass

from ska_vct.utils.errors import UnknownNameError

# Order of the published VCT checkpoints' prototypes.
S4_CATEGORIES = (
    "helicopter", "mynah_bird_singing", "typing_on_computer_keyboard", "playing_violin", "playing_glockenspiel",
    "playing_piano", "lions_roaring", "baby_laughter", "male_speech", "lawn_mowing", "playing_ukulele",
    "playing_tabla", "driving_buses", "cap_gun_shooting", "chainsawing_trees", "playing_acoustic_guitar",
    "cat_meowing", "female_singing", "ambulance_siren", "dog_barking", "horse_clip-clop", "coyote_howling",
    "race_car",
)  # fmt: skip

# Index = class in the released label maps (label2idx.json).
AVSS_CLASSES = (
    "background", "accordion", "airplane", "axe", "baby", "bassoon", "bell", "bird", "boat", "boy", "bus", "car",
    "cat", "cello", "clarinet", "clipper", "clock", "dog", "donkey", "drum", "duck", "elephant", "emergency-car",
    "erhu", "flute", "frying-food", "girl", "goose", "guitar", "gun", "guzheng", "hair-dryer", "handpan",
    "harmonica", "harp", "helicopter", "hen", "horse", "keyboard", "leopard", "lion", "man", "marimba",
    "missile-rocket", "motorcycle", "mower", "parrot", "piano", "pig", "pipa", "saw", "saxophone", "sheep",
    "sitar", "sorna", "squirrel", "tabla", "tank", "tiger", "tractor", "train", "trombone", "truck", "trumpet",
    "tuba", "ukulele", "utv", "vacuum-cleaner", "violin", "wolf", "woman",
)  # fmt: skip


@dataclass(frozen=True)
class Subset:
    """Facts of one AVSBench subset.

    Attributes:
        name: ``s4``, ``ms3`` or ``avss``; used in dataset names and flow folders.
        title: what people call it, for tables.
        folder: path of the release below the dataset root.
        num_prototypes: learnt class prototypes of the published model; 0 for none.
        prototype_labels: where a clip's sounding classes come from: ``category`` (the clip's category),
            ``masks`` (classes in the frame's ground truth) or ``none``.
        classes: names of the semantic classes, background first.
        binary_masks: ground truth is 0 / 255 rather than an index map.
        num_frames: frames of the clips, one per second; AVSS mixes clips of 5 (v1s, v1m) and 10 (v2).
        split_sizes: clips of the published train / val / test split.
        audio_fill: what the release does where the sound ends before the video: ``repeat`` the last second's
            log-mel or append ``zeros``.
        first_mask_labels: label folders (None: the subset has no such folders) whose training clips are annotated
            in the first frame only.
        square_in_training: VCT resizes training frames, label maps and pre-masks to short side x short side before
            it augments them; they are stored at any aspect ratio.
    """

    name: str
    title: str
    folder: str
    classes: tuple[str, ...]
    num_prototypes: int
    prototype_labels: str
    binary_masks: bool
    num_frames: tuple[int, ...]
    split_sizes: dict[str, int]
    audio_fill: str
    first_mask_labels: tuple[str | None, ...]
    square_in_training: bool

    @property
    def num_classes(self) -> int:
        """Semantic classes, background (index 0) included."""
        return len(self.classes)

    def clip_frames(self, label: str | None = None) -> int:
        """Frames of a clip; ``label`` is AVSS's folder, of which v2 holds the long clips."""
        return max(self.num_frames) if label == "v2" else min(self.num_frames)

    def annotated_frames(self, split: str, label: str | None = None) -> range:
        """Indices, from 0, of the frames that the release annotates."""
        sparse = split == "train" and label in self.first_mask_labels
        return range(1 if sparse else self.clip_frames(label))


S4 = Subset(
    name="s4",
    title="AVSBench S4 (single source)",
    folder="AVSBench_object/Single-source",
    classes=("background", "object"),
    num_prototypes=len(S4_CATEGORIES),
    prototype_labels="category",
    binary_masks=True,
    num_frames=(5,),
    split_sizes={"train": 3452, "val": 740, "test": 740},
    audio_fill="repeat",
    first_mask_labels=(None,),
    square_in_training=False,
)
MS3 = Subset(
    name="ms3",
    title="AVSBench MS3 (multiple sources)",
    folder="AVSBench_object/Multi-sources",
    classes=("background", "object"),
    num_prototypes=0,
    prototype_labels="none",
    binary_masks=True,
    num_frames=(5,),
    split_sizes={"train": 296, "val": 64, "test": 64},
    audio_fill="repeat",
    first_mask_labels=(),
    square_in_training=False,
)
AVSS = Subset(
    name="avss",
    title="AVSBench AVSS (semantic)",
    folder="AVSBench_semantic",
    classes=AVSS_CLASSES,
    num_prototypes=len(AVSS_CLASSES),
    prototype_labels="masks",
    binary_masks=False,
    num_frames=(5, 10),
    split_sizes={"train": 7948, "val": 1704, "test": 1704},
    audio_fill="zeros",
    first_mask_labels=("v1s",),
    square_in_training=True,
)

SUBSETS = {subset.name: subset for subset in (S4, MS3, AVSS)}
SPLITS = ("train", "val", "test")


def get_subset(name: str) -> Subset:
    """Look a subset up by name.

    Raises:
        KeyError: listing the names there are.
    """
    try:
        return SUBSETS[name]
    except KeyError:
        raise UnknownNameError(
            f"There is no AVSBench subset '{name}'; choose one of {', '.join(SUBSETS)}."
        ) from None


def dataset_name(subset: str, split: str) -> str:
    """Name under which ``subset``'s ``split`` is registered in ``DatasetCatalog``, e.g. ``avsbench_ms3_test``."""
    return f"avsbench_{get_subset(subset).name}_{split}"
