"""AVSBench's three subsets as records of facts, which alone define their differences (docs/data.md)."""

from ska_vct.data.facts import ORIGINAL, SPLITS, DatasetFacts, ImageSet

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

# Side length in pixels of AVSBench-object's frames, of the frames made by COMBO's and VCT's scripts, and of masks.
RELEASED_SIDE, REBUILT_SIDE, TRUTH_SIDE = 224, 384, 224
REBUILT, CROPPED = "rebuilt 384", "rebuilt 224"


def _by_split(train: str | int, evaluation: str | int) -> dict:
    return {"train": train, "val": evaluation, "test": evaluation}


def _object_images(data: str, frames: str, masks: str) -> tuple[ImageSet, ...]:
    """The two forms of AVSBench-object's images: VCT's 384 px folders, then the release's own."""
    return (
        ImageSet(
            state=REBUILT,
            frames=f"{data}_384/visual_frames_384/{frames}",
            masks=_by_split(f"{data}_384/gt_masks_384/{masks}", f"{data}_384/gt_masks_224/{masks}"),
            side=REBUILT_SIDE,
            mask_sides=_by_split(REBUILT_SIDE, TRUTH_SIDE),
        ),
        ImageSet(
            state=ORIGINAL,
            frames=f"{data}/visual_frames/{frames}",
            masks=dict.fromkeys(SPLITS, f"{data}/gt_masks/{masks}"),
            side=RELEASED_SIDE,
        ),
    )


S4 = DatasetFacts(
    name="s4",
    title="AVSBench S4 (single source)",
    catalogue="avsbench_s4",
    source="the released s4_meta_data.csv; Zhou et al., ECCV 2022",
    categories=S4_CATEGORIES,
    num_prototypes=len(S4_CATEGORIES),
    num_frames=5,
    first_mask_labels=(None,),
    single_source=(None,),
    split_sizes={"train": 3452, "val": 740, "test": 740},
    folder="AVSBench_object/Single-source",
    signs=(frozenset({"s4_meta_data.csv", "s4_data", "s4_data_384"}),),
    closed=frozenset({"s4_data", "s4_data_384"}),
    table="s4_meta_data.csv",
    columns={"name": ("name",), "start": ("start", "start time"), "category": ("category",), "split": ("split",)},
    optional_columns=frozenset({"start"}),
    headless=("name", "start", "category", "split"),
    clip_id="{split}/{category}/{name}",
    image_sets=_object_images("s4_data", "{split}/{category}/{name}", "{split}/{category}/{name}"),
    frame_files=("{name}_{second}",),
    mask_files=("{name}_{second}.png",),
    first_number=1,
    # VCT's folder, then COMBO's; both contain uncropped frames, at 384 and at 224 px.
    pre_mask_folders=("s4_data_384/pre_SAM_mask_384", "s4_data/pre_SAM_mask"),
    pre_mask_clips=("{split}/{category}/{name}",),
    wav="s4_data/audio_wav/{split}/{category}/{name}.wav",
    log_mel="s4_data/audio_log_mel/{split}/{category}/{name}",
    video="s4_data/raw_videos/{split}/{category}/{name}.mp4",
    flow="s4/{split}/{category}/{name}.npz",
    twin_label="v1s",
)
MS3 = DatasetFacts(
    name="ms3",
    title="AVSBench MS3 (multiple sources)",
    catalogue="avsbench_ms3",
    source="the released ms3_meta_data.csv; Zhou et al., ECCV 2022",
    num_frames=5,
    split_sizes={"train": 296, "val": 64, "test": 64},
    folder="AVSBench_object/Multi-sources",
    signs=(frozenset({"ms3_meta_data.csv", "ms3_data", "ms3_data_384"}),),
    closed=frozenset({"ms3_data", "ms3_data_384"}),
    table="ms3_meta_data.csv",
    columns={"name": ("video_id", "name"), "split": ("split",)},
    headless=("name", "split"),
    image_sets=_object_images("ms3_data", "{name}", "{split}/{name}"),
    # The release includes the video's extension in the image names, VCT's rebuild does not.
    frame_files=("{name}.mp4_{second}", "{name}_{second}"),
    mask_files=("{name}_{second}.png", "{name}.mp4_{second}.png"),
    first_number=1,
    pre_mask_folders=("ms3_data_384/pre_SAM_mask_384", "ms3_data/pre_SAM_mask"),
    pre_mask_clips=("{name}",),
    wav="ms3_data/audio_wav/{split}/{name}.wav",
    log_mel="ms3_data/audio_log_mel/{split}/{name}",
    video="ms3_data/raw_videos/{name}.mp4",
    flow="ms3/{split}/{name}.npz",
    twin_label="v1m",
    mask_palette=True,
)
AVSS = DatasetFacts(
    name="avss",
    title="AVSBench AVSS (semantic)",
    catalogue="avsbench_avss",
    source="Zhou et al., Audio-Visual Segmentation with Semantics (IJCV 2024); the released label2idx.json",
    classes=AVSS_CLASSES,
    binary_masks=False,
    num_prototypes=len(AVSS_CLASSES),
    # COMBO's and VCT's mappers resize AVSS's frames to squares first; those of S4 and MS3 are square already.
    square_in_training=True,
    label_frames={"v1s": 5, "v1m": 5, "v2": 10},
    first_mask_labels=("v1s",),
    single_source=("v1s",),
    # An author's script has 7948 / 1704 / 1704; the released table lists 1554 test clips, as does the paper.
    split_sizes={"train": 8498, "val": 1304, "test": 1554},
    audio_fill="zeros",
    folder="AVSBench_semantic",
    signs=(frozenset({"v1s", "v1m", "v2"}), frozenset({"metadata.csv", "label2idx.json"})),
    closed=frozenset({"v1s", "v1m", "v2", "pre_SAM_mask"}),
    table="metadata.csv",
    columns={
        "vid": ("vid",),
        "name": ("uid",),
        "start": ("s_min",),
        "end": ("s_max",),
        "classes": ("a_obj",),
        "split": ("split",),
        "label": ("label",),
    },
    optional_columns=frozenset({"vid", "start", "end"}),
    class_list="label2idx.json",
    clip_id="{label}/{name}",
    image_sets=(
        ImageSet(
            state=REBUILT,
            frames="{label}/{name}/processed_frames_384",
            masks=_by_split(
                "{label}/{name}/processed_labels_semantic_384", "{label}/{name}/processed_labels_semantic"
            ),
            side=REBUILT_SIDE,
            mask_sides=_by_split(REBUILT_SIDE, TRUTH_SIDE),
        ),
        # COMBO's training frames of 224 px are crops.
        ImageSet(
            state=CROPPED,
            frames="{label}/{name}/processed_frames",
            masks=dict.fromkeys(SPLITS, "{label}/{name}/processed_labels_semantic"),
            cropped=True,
        ),
        ImageSet(
            state=ORIGINAL,
            frames="{label}/{name}/frames",
            masks=dict.fromkeys(SPLITS, "{label}/{name}/labels_semantic"),
        ),
    ),
    frame_files=("{second}",),
    mask_files=("{second}.png",),
    endings=(".jpg", ".jpeg", ".png"),
    pre_mask_folders=("pre_SAM_mask/AVSBench_semantic",),
    pre_mask_clips=("{label}/{name}/{images}", "{label}/{name}/frames"),
    wav="{label}/{name}/audio.wav",
    log_mel="{label}/{name}/audio",
    video="{label}/{name}/*.mp4",
    flow="avss/{label}/{name}.npz",
)

SUBSETS = {facts.name: facts for facts in (S4, MS3, AVSS)}
# Source of larger frames for AVSBench-object's clips (``twin_label``).
LARGE_FRAMES = AVSS.name
