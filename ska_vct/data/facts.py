"""Static facts about datasets: one frozen record per dataset, looked up by name.

Every path in a record is a template below the dataset's folder. A placeholder is a name in braces, replaced by the
clip's value: ``{split}``, ``{name}``, ``{category}``, ``{label}``, any further column of
the table, ``{images}`` (the last part of the folder of the frames), and in file names ``{second}`` (counted from
``first_number``) and ``{frame}`` (the last image up to the second's sample time).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

SPLITS = ("train", "val", "test")
# A frame represents the second at whose end it lies: AVSBench samples image 15 of 16 (docs/data.md).
SAMPLE_TIME = 15 / 16
ORIGINAL = "original"
Seconds = TypeVar("Seconds", float, np.ndarray)
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """One form in which a dataset's frames exist on disk, with matching masks.

    Attributes:
        state: name of the form in reports: ``original``, ``rebuilt 384``, ``rebuilt 224``.
        frames: folder of a clip's frames.
        masks: split -> folder of a clip's masks.
        side: height and width of square frames; 0 for frames of any size.
        mask_sides: split -> height and width of square masks; empty for masks of any size.
        cropped: the frames are crops of the original ones; they are used only if those are missing, and segments
            of other image sets do not match them.
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
        name: identifier in configs (``DATASETS.SUBSET``), records and flow folders.
        title: name in tables and messages.
        catalogue: prefix of the names of its splits in ``DatasetCatalog``; empty for ``name``.
        source: source of the facts.
        classes: names of the semantic classes, background first.
        binary_masks: masks are 0 / 255 (or 0 / 1) instead of maps of class indices.
        categories: categories in the order of their prototypes, if each clip has one; else empty.
        num_prototypes: number of learnt class prototypes; 0 for none.
        square_in_training: the published training resizes frames to squares before it scales and crops them.
        num_frames: frames of a clip, one per second; 0: as many as the clip has whole seconds.
        label_frames: label folder -> frames of its clips, if clips are stored in such folders; else empty.
        first_mask_labels: label folders (None: no label folders) whose training clips are annotated in their first
            frame only.
        masks_where_found: frames are annotated if they have a mask file, instead of in fixed seconds.
        single_source: label folders (None: no label folders) whose clips contain one sounding object.
        split_sizes: split -> published number of clips; empty if unpublished.
        audio_fill: replacement for audio that ends early: ``repeat`` the last second's log-mel, or ``zeros``.

        folder: the release below the datasets' root.
        signs: groups of names; a folder that contains one name of each group is the release.
        closed: folders inside the release that contain no other release.
        table: CSV file of clips; empty: the splits are folders.
        columns: key of a clip's value -> accepted names of its column, the usual one first.
        optional_columns: keys of ``columns`` that a table may lack.
        headless: keys of ``columns`` in the order of tables without a header line; empty: every table has one.
        class_list: JSON file of class names and indices; empty for none.

        clip_id: template of a clip's name within the dataset.
        image_sets: image sets in order of preference, the original frames last.
        frame_files, mask_files: accepted file names, the usual one first; ``endings`` are tried for names without
            an extension.
        endings: extensions of frames, the usual one first.
        first_number: number of the first second's file.
        frame_rate: images per second in the frame folder.
        digits: numbers are zero-padded to this many digits.
        pre_mask_folders: folders of the published segments.
        pre_mask_clips: a clip's segment folder below those and below ``INPUT.PRE_MASK.ROOT``.
        wav, log_mel, video: files of a clip; ``log_mel`` without extension, ``video`` with ``*`` for any name.
        flow: flow file of a clip below the flow root.
        twin_label: AVSS folder of the same clips with larger frames; empty for none.
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
        """Number of semantic classes, background (index 0) included."""
        return len(self.classes)

    @property
    def original(self) -> ImageSet:
        """The released frames and masks."""
        return next(images for images in self.image_sets if images.state == ORIGINAL)

    def clip_frames(self, label: str | None = None) -> int:
        """Frames of a clip in label folder ``label``; without a label, those of the shortest clips."""
        if label in self.label_frames:
            return self.label_frames[label]
        return min(self.label_frames.values(), default=self.num_frames)

    def annotated_frames(self, split: str, label: str | None = None) -> range:
        """Indices, from 0, of the annotated frames of the release."""
        sparse = split == "train" and label in self.first_mask_labels
        return range(1 if sparse else self.clip_frames(label))

    def split_name(self, split: str) -> str:
        """Name of a split in ``DatasetCatalog``, e.g. ``avsbench_ms3_test``."""
        return f"{self.catalogue or self.name}_{split}"

    def number(self, second: int) -> dict[str, str]:
        """Values of ``{second}`` and ``{frame}`` in the file names of a second, which is counted from 0."""
        frame = int(self.frame_rate * sample_time(second))
        numbers = {"second": second + self.first_number, "frame": frame + self.first_number}
        return {key: str(value).zfill(self.digits) for key, value in numbers.items()}


def sample_time(second: Seconds) -> Seconds:
    """When the frame of a second, counted from 0, is shown: 15/16 into it, seconds (docs/time_line.svg)."""
    return second + SAMPLE_TIME


def expand(template: str, values: Mapping[str, str | None]) -> str:
    """Replace the placeholders of a template once; braces inside values are kept.

    Raises:
        KeyError: a placeholder has no value.
    """

    def value(match: re.Match) -> str:
        found = values[match[1]]
        return "" if found is None else str(found)

    return _PLACEHOLDER.sub(value, template)


def placeholders(template: str) -> set[str]:
    """Names of the placeholders in a template."""
    return set(_PLACEHOLDER.findall(template))


def shared_part(template: str) -> str:
    """Leading folders of a template that all clips of a split share; the whole template if there are none."""
    parts = template.split("/")
    shared = []
    for part in parts:
        if placeholders(part) - {"split"}:
            break
        shared.append(part)
    return "/".join(shared) or template
