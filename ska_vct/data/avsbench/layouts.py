"""Turns rows of a dataset's table into records of paths, using the path templates of its facts (docs/data.md)."""

import os
from dataclasses import dataclass

from ska_vct.data.avsbench.folders import FolderIndex, MissingFiles
from ska_vct.data.avsbench.tables import clip_id
from ska_vct.data.facts import ORIGINAL, DatasetFacts, ImageSet, expand, shared_part
from ska_vct.data.images.video_frames import count_seconds, frame_of_video

# Purposes of files, as named in reports of missing files.
FRAME, MASK, PRE_MASK, AUDIO, VIDEO = "frame", "mask", "pre-mask", "audio", "video"
_IMAGES = (".png", ".jpg", ".jpeg")
_PRE_MASK_ENDINGS = ("_mask_color.png", ".png")


@dataclass(kw_only=True)
class Reader:
    """Creates the records of one split.

    Attributes:
        facts: facts of the dataset.
        split: ``train``, ``val`` or ``test``.
        base: the dataset's folder.
        prepared: corresponding output folder of ``datasets/prepare.py``; empty for none.
        flow_roots: folders of the flow files, in order of preference; new files belong into the first.
        prefer_rebuilt: use previously resized frames where they exist.
        pre_masks: whether to look for images of class-agnostic segments.
        pre_mask_root: folder of these images; empty for the published one.
        index: listings of the folders read so far.
        missing: files that were not found.
    """

    facts: DatasetFacts
    split: str
    base: str
    prepared: str
    flow_roots: tuple[str, ...]
    prefer_rebuilt: bool
    pre_masks: bool
    pre_mask_root: str
    index: FolderIndex
    missing: MissingFiles

    def clip_id(self, row: dict[str, str]) -> str:
        """Id of the clip within its dataset."""
        return clip_id(self.facts, row)

    def record(self, row: dict[str, str]) -> dict:
        """Create the record of one row of the table."""
        facts, name, label = self.facts, self.clip_id(row), row.get("label")
        video_path = self._file(facts.video, row)
        images, base = self._images(row)
        count = self._count(row, images, base, video_path)
        if facts.frame_files:
            folder = self._folder(base, images.frames, row)
            frames = [self._numbered(name, FRAME, folder, facts.frame_files, row, k) for k in range(count)]
        else:
            frames = [video_path and frame_of_video(video_path, k) for k in range(count)]
            if not video_path:
                self.missing.add(name, os.path.join(self.base, expand(facts.video, row)), VIDEO)
        wav_path, log_mel_paths = self._file(facts.wav, row), self._log_mels(row)
        if not any((wav_path, video_path, *log_mel_paths.values())):
            wanted = expand(facts.wav or facts.video, row)
            self.missing.add(name, os.path.join(self.base, wanted), AUDIO)
        category, classes = row.get("category"), row.get("classes")
        return {
            "clip_id": name,
            "subset": facts.name,
            "split": self.split,
            "name": row["name"],
            "category": category,
            "label": label,
            "image_paths": frames,
            "mask_paths": self._masks(row, images, base, count),
            "pre_mask_paths": self._pre_masks(row, images, count) if self.pre_masks else None,
            "rebuilt": images.state != ORIGINAL,
            "image_state": images.state,
            "wav_path": wav_path,
            "log_mel_paths": log_mel_paths,
            "video_path": video_path,
            "flow_path": self._flow(row),
            "sem_classes": tuple(part for part in (classes or "").split("_") if part)
            or ((category,) if category else ()),
        }

    def _images(self, row: dict[str, str]) -> tuple[ImageSet, str]:
        """The image set to use for a clip, and its base folder: the first that holds all of its frames.

        A preparation may have been interrupted, or have covered some clips only. If no set is whole, what the
        first one lacks is reported.
        """
        candidates = [
            (images, base) for images, base in self._image_sets(row) if self._has(base, images.frames, row)
        ]
        if len(self.facts.image_sets) > 1:
            for images, base in candidates:
                if self._is_whole(images, base, row):
                    return images, base
        return candidates[0] if candidates else (self.facts.original, self.base)

    def _image_sets(self, row: dict[str, str]) -> list[tuple[ImageSet, str]]:
        """Image sets in order of preference, with the folders that may hold them."""
        found = []
        for images in self.facts.image_sets:
            if images.state == ORIGINAL:
                found.append((images, self.base))
            elif images.cropped:
                if not self._has(self.base, self.facts.original.frames, row):
                    found.append((images, self.base))
            elif self.prefer_rebuilt:
                found += [(images, base) for base in (self.prepared, self.base) if base]
        return found

    def _is_whole(self, images: ImageSet, base: str, row: dict[str, str]) -> bool:
        folder = self._folder(base, images.frames, row)
        count = self.facts.clip_frames(row.get("label"))
        names = (self._candidates(self.facts.frame_files, row, k) for k in range(count))
        return all(self.index.first(folder, candidates) for candidates in names)

    def _count(self, row: dict[str, str], images: ImageSet, base: str, video: str | None) -> int:
        """Length of a clip in seconds."""
        count = self.facts.clip_frames(row.get("label"))
        if count:
            return count
        if not self.facts.frame_files:
            return count_seconds(video) if video else 0
        names = self.index.names(self._folder(base, images.frames, row))
        while any(name in names for name in self._candidates(self.facts.frame_files, row, count)):
            count += 1
        # A clip without its first frame is reported through that missing frame.
        return max(count, 1)

    def _masks(self, row: dict[str, str], images: ImageSet, base: str, count: int) -> list[str | None]:
        masks: list[str | None] = [None] * count
        sparse = self.split == "train" and row.get("label") in self.facts.first_mask_labels
        wanted = range(min(count, 1) if sparse else count)
        folder = self._mask_folder(row, images, base, wanted)
        if self.facts.masks_where_found:
            for k in range(count):
                masks[k] = self.index.first(folder, self._candidates(self.facts.mask_files, row, k))
            if count and not any(masks):
                self.missing.add(
                    self.clip_id(row), f"{folder}/{self._candidates(self.facts.mask_files, row, 0)[0]}", MASK
                )
            return masks
        for k in wanted:
            masks[k] = self._numbered(self.clip_id(row), MASK, folder, self.facts.mask_files, row, k)
        return masks

    def _mask_folder(self, row: dict[str, str], images: ImageSet, base: str, wanted: range) -> str:
        """Folder of the masks that match the frames; the original masks match all image sets except crops."""
        original = self._folder(self.base, self.facts.original.masks[self.split], row)
        there = [
            self._folder(root, images.masks[self.split], row)
            for root in dict.fromkeys((base, self.base))
            if self._has(root, images.masks[self.split], row)
        ]
        for folder in [*there, *([] if images.cropped else [original])]:
            if all(self.index.first(folder, self._candidates(self.facts.mask_files, row, k)) for k in wanted):
                return folder
        return there[0] if there else original

    def _flow(self, row: dict[str, str]) -> str:
        """The clip's flow: a file in any of the folders, else a published folder, else where a file belongs."""
        inside, _, file = expand(self.facts.flow, row).rpartition("/")
        for name in (file, file.removesuffix(".npz")) if len(self.flow_roots) > 1 else ():
            for root in self.flow_roots:
                if name in self.index.names(f"{root}/{inside}"):
                    return f"{root}/{inside}/{file}"
        return f"{self.flow_roots[0]}/{inside}/{file}"

    def _pre_masks(self, row: dict[str, str], images: ImageSet, count: int) -> list[str | None]:
        values = row | {"images": images.frames.rpartition("/")[2]}
        clips = self.facts.pre_mask_clips[:1] if images.cropped else self.facts.pre_mask_clips
        if self.pre_mask_root:
            candidates = [(self.pre_mask_root, expand(clip, values)) for clip in clips]
        else:
            folders = self.facts.pre_mask_folders
            candidates = [(self.base, f"{folder}/{expand(clip, values)}") for folder in folders for clip in clips]
            if not candidates:
                self.missing.add(self.clip_id(row), "INPUT.PRE_MASK.ROOT", PRE_MASK)
                return [None] * count
        at = next(
            (candidate for candidate in candidates if self.index.names(self.index.folder(*candidate))),
            candidates[0],
        )
        stems = tuple(os.path.splitext(f)[0] if f.endswith(_IMAGES) else f for f in self.facts.frame_files)
        return [
            self._numbered(
                self.clip_id(row),
                PRE_MASK,
                self.index.folder(*at),
                stems or ("{second}",),
                row,
                k,
                _PRE_MASK_ENDINGS,
            )
            for k in range(count)
        ]

    def _log_mels(self, row: dict[str, str]) -> dict[str, str | None]:
        """Log-mel files in the dataset's folder or in the prepared one."""
        if not self.facts.log_mel:
            return {"pickle": None, "npy": None}
        inside, _, stem = self.facts.log_mel.rpartition("/")
        stem = expand(stem, row)
        folders = [self._folder(base, inside, row) for base in (self.base, self.prepared) if base]
        return {
            name: next(filter(None, (self.index.first(folder, [stem + end]) for folder in folders)), None)
            for name, end in (("pickle", ".pkl"), ("npy", ".npy"))
        }

    def _file(self, template: str, row: dict[str, str]) -> str | None:
        """Path of one file of a clip; a name ``*.ending`` matches the first such file."""
        if not template:
            return None
        inside, _, file = template.rpartition("/")
        folder = self._folder(self.base, inside, row)
        if file.startswith("*"):
            return self.index.first(folder, sorted(n for n in self.index.names(folder) if n.endswith(file[1:])))
        return self.index.first(folder, [expand(file, row)])

    def _folder(self, base: str, template: str, row: dict[str, str]) -> str:
        inside = expand(template, row)
        if inside.startswith("/"):
            return self.index.folder("", inside[1:])
        return self.index.folder(base, inside)

    def _has(self, base: str, template: str, row: dict[str, str]) -> bool:
        """Whether an image set exists, judged by its folder of the split or, if clips share none, of the clip."""
        return bool(self.index.names(self._folder(base, shared_part(template), row)))

    def _candidates(
        self, stems: tuple[str, ...], row: dict[str, str], second: int, endings: tuple[str, ...] | None = None
    ) -> list[str]:
        values = row | self.facts.number(second)
        names = [expand(stem, values) for stem in stems]
        if endings is None and all(stem.endswith(_IMAGES) for stem in stems):
            return names
        return [name + end for name in names for end in endings or self.facts.endings]

    def _numbered(self, clip: str, what: str, folder: str, stems, row, second: int, endings=None) -> str | None:
        candidates = self._candidates(stems, row, second, endings)
        path = self.index.first(folder, candidates)
        if path is None:
            self.missing.add(clip, f"{folder}/{candidates[0]}", what)
        return path
