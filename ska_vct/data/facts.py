"""What is true of a dataset before any of its files is read: one frozen record per dataset, looked up by name.

Every path in a record is a template below the dataset's folder. A placeholder is a name in braces that is replaced
by the clip's value, nothing else: ``{split}``, ``{name}``, ``{category}``, ``{label}``, any further column of
the table, ``{images}`` (the last part of the folder that the frames come from), and in the names of files
``{second}`` (counted from ``first_number``) and ``{frame}`` (the image nearest before the second's sample time).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

SPLITS = ("train", "val", "test")
# A frame stands for the second it ends, as AVSBench samples it: image 15 of 16 of each second (docs/data.md).
SAMPLE_TIME = 15 / 16
ORIGINAL = "original"
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """One form in which a dataset's frames exist on disk, and the masks that fit them.

    Attributes:
        state: its name in reports: ``original``, ``rebuilt 384``, ``rebuilt 224``.
        frames: folder of a clip's frames.
        masks: split -> folder of a clip's masks.
        side: height and width of square frames; 0 for frames of any size.
        mask_sides: split -> height and width of square masks; empty for masks of any size.
        cropped: the frames show a part of the original ones, so they serve only where those are gone, and no
            other set's segments fit them.
    """

    state: str
    frames: str
    masks: Mapping[str, str]
    side: int = 0
    mask_sides: Mapping[str, int] = field(default_factory=dict)
    cropped: bool = False


@dataclass(frozen=True, kw_only=True)
class DatasetFacts:
    """Facts of one dataset.

    Attributes:
        name: what configs, records and folders of flow call it: ``DATASETS.SUBSET``.
        title: its name in tables and messages.
        catalogue: prefix of its splits' names in ``DatasetCatalog``; empty for ``name``.
        source: where the facts come from.
        classes: names of the semantic classes, background first.
        binary_masks: masks are 0 / 255 (or 0 / 1) rather than maps of class indices.
        categories: categories in the order of their prototypes, where each clip has one; empty otherwise.
        num_prototypes: learnt class prototypes that fit the dataset; 0 for none.
        square_in_training: the published training resizes frames to squares before it scales and crops them.
        num_frames: frames of a clip, one per second; 0: as many as the clip has whole seconds.
        label_frames: label folder -> frames of its clips, where clips lie in such folders; empty otherwise.
        first_mask_labels: label folders (None: there are none) whose training clips are annotated in their first
            frame only.
        masks_where_found: frames are annotated where there is a mask file, rather than in fixed seconds.
        single_source: label folders (None: there are none) in whose clips one object sounds.
        split_sizes: split -> published clips; empty where nothing was published.
        audio_fill: what replaces audio that ends early: ``repeat`` the last second's log-mel, or ``zeros``.

        folder: the release below the datasets' root.
        signs: groups of names, one of each group in a folder makes it the release.
        closed: folders inside the release that hold no other release.
        table: the csv file of clips; empty: the splits are folders.
        columns: what a clip's value is called here -> names of its column, the first the usual one.
        optional_columns: keys of ``columns`` that a table may lack.
        headless: keys of ``columns`` in the order of tables without a header line; empty: every table has one.
        class_list: JSON file of class names and indices; empty for none.

        clip_id: template of a clip's name within the dataset.
        image_sets: in order of preference, the original frames last.
        frame_files, mask_files: names of the files, the first the usual one; ``endings`` are tried where a name
            has none of its own.
        endings: of frames, the usual one first.
        first_number: the number of the first second's file.
        frame_rate: images per second in the folder of frames; 1 where there is one per second.
        digits: numbers are padded with zeros to so many digits.
        pre_mask_folders: where published segments lie.
        pre_mask_clips: a clip's folder of segments below those and below ``INPUT.PRE_MASK.ROOT``.
        wav, log_mel, video: files of a clip, ``log_mel`` without its ending, ``video`` with ``*`` for any name.
        flow: the clip's flow file below the flow root.
        twin_label: AVSS's folder of the same clips with larger frames; empty for none.
        mask_palette: the released masks have mode P.
    """

    name: str
    title: str
    catalogue: str = ""
    source: str = ""
    classes: tuple[str, ...] = ("background", "object")
    binary_masks: bool = True
    categories: tuple[str, ...] = ()
    num_prototypes: int = 0
    square_in_training: bool = False
    num_frames: int = 0
    label_frames: Mapping[str, int] = field(default_factory=dict)
    first_mask_labels: tuple[str | None, ...] = ()
    masks_where_found: bool = False
    single_source: tuple[str | None, ...] = ()
    split_sizes: Mapping[str, int] = field(default_factory=dict)
    audio_fill: str = "repeat"

    folder: str = ""
    signs: tuple[frozenset[str], ...] = ()
    closed: frozenset[str] = frozenset()
    table: str = ""
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    optional_columns: frozenset[str] = frozenset()
    headless: tuple[str, ...] = ()
    class_list: str = ""

    clip_id: str = "{split}/{name}"
    image_sets: tuple[ImageSet, ...] = ()
    frame_files: tuple[str, ...] = ()
    mask_files: tuple[str, ...] = ()
    endings: tuple[str, ...] = (".png", ".jpg", ".jpeg")
    first_number: int = 0
    frame_rate: float = 1.0
    digits: int = 0
    pre_mask_folders: tuple[str, ...] = ()
    pre_mask_clips: tuple[str, ...] = ("{split}/{name}",)
    wav: str = ""
    log_mel: str = ""
    video: str = ""
    flow: str = ""
    twin_label: str = ""
    mask_palette: bool = False

    @property
    def num_classes(self) -> int:
        """Semantic classes, background (index 0) included."""
        return len(self.classes)

    @property
    def original(self) -> ImageSet:
        """The frames and masks as they are released."""
        return next(images for images in self.image_sets if images.state == ORIGINAL)

    def clip_frames(self, label: str | None = None) -> int:
        """Frames of a clip; ``label`` is its label folder, without one the shortest clips' count."""
        if label in self.label_frames:
            return self.label_frames[label]
        return min(self.label_frames.values(), default=self.num_frames)

    def annotated_frames(self, split: str, label: str | None = None) -> range:
        """Indices, from 0, of the frames that the release annotates."""
        sparse = split == "train" and label in self.first_mask_labels
        return range(1 if sparse else self.clip_frames(label))

    def split_name(self, split: str) -> str:
        """Name of a split in ``DatasetCatalog``, e.g. ``avsbench_ms3_test``."""
        return f"{self.catalogue or self.name}_{split}"

    def number(self, second: int) -> dict[str, str]:
        """What ``{second}`` and ``{frame}`` stand for in the names of the files of a second, counted from 0."""
        frame = int(self.frame_rate * (second + SAMPLE_TIME))
        numbers = {"second": second + self.first_number, "frame": frame + self.first_number}
        return {key: str(value).zfill(self.digits) for key, value in numbers.items()}


def expand(template: str, values: Mapping[str, str | None]) -> str:
    """A template with its placeholders replaced, and nothing else: a value's own braces stay as they are.

    Raises:
        KeyError: a placeholder has no value.
    """

    def value(match: re.Match) -> str:
        found = values[match[1]]
        return "" if found is None else str(found)

    return _PLACEHOLDER.sub(value, template)


def placeholders(template: str) -> set[str]:
    """Names in braces in a template."""
    return set(_PLACEHOLDER.findall(template))


def shared_part(template: str) -> str:
    """The folders of a template that all clips of a split share; the whole template where there are none."""
    parts = template.split("/")
    shared = []
    for part in parts:
        if placeholders(part) - {"split"}:
            break
        shared.append(part)
    return "/".join(shared) or template
