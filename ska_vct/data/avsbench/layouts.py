"""Where a clip's files lie in the three released layouts and in COMBO's, VCT's and our rebuilds (spec: data.md).

Each reader turns one row of the subset's table into a record; ``avsbench.py`` describes the record's fields.
"""

from dataclasses import dataclass

from ska_vct.data.avsbench.folders import FolderIndex, MissingFiles
from ska_vct.data.avsbench.subsets import Subset
from ska_vct.data.flow.store import flow_path

PICTURES = (".png", ".jpg", ".jpeg")
# AVSS's pictures as VCT's and COMBO's scripts make them: 384 px squares, and 224 px squares (crops in training).
SQUARES, CROPPED = "processed_frames_384", "processed_frames"
# What a file is for, as reports of missing files say it.
FRAME, MASK, PRE_MASK, SOUND = "frame", "mask", "segment picture", "sound"


@dataclass(kw_only=True)
class Reader:
    """What is the same for all clips of one split.

    Attributes:
        subset: the facts of the subset.
        split: ``train``, ``val`` or ``test``.
        base: the release's folder.
        prepared: its twin that ``datasets/prepare.py`` has filled; empty for none.
        flow_root: folder of the flow files.
        prefer_rebuilt: use COMBO's and VCT's 384 px folders where they exist.
        pre_masks: whether to look for pictures of class-agnostic segments.
        pre_mask_root: their folder; empty for the published place.
        index: the folders read so far.
        missing: what was looked for in vain.
    """

    subset: Subset
    split: str
    base: str
    prepared: str
    flow_root: str
    prefer_rebuilt: bool
    pre_masks: bool
    pre_mask_root: str
    index: FolderIndex
    missing: MissingFiles

    def clip_id(self, row: dict[str, str]) -> str:
        """The clip's name within its subset."""
        if self.subset.name == "avss":
            return f"{row['label']}/{row['uid']}"
        return "/".join([self.split, *([row["category"]] if row.get("category") else []), row["name"]])

    def record(self, row: dict[str, str]) -> dict:
        """The record of one row of the table."""
        return self._semantic_record(row) if self.subset.name == "avss" else self._object_record(row)

    def _object_record(self, row: dict[str, str]) -> dict:
        """A clip of AVSBench-object: S4 has category folders, MS3 none, and no split folder for its frames."""
        name, category, prefix = row["name"], row.get("category"), self.subset.name
        clip_id = self.clip_id(row)
        folder = clip_id.rpartition("/")[0]
        frame_folder = clip_id if prefix == "s4" else name
        released = f"{self.base}/{prefix}_data"
        rebuilt = self._object_rebuild()
        frames_at = f"{rebuilt}/visual_frames_384" if rebuilt else f"{released}/visual_frames"
        masks_at = f"{released}/gt_masks"
        if rebuilt:
            size = "384" if self.split == "train" else "224"
            if self.index.names(f"{rebuilt}/gt_masks_{size}/{self.split}"):
                masks_at = f"{rebuilt}/gt_masks_{size}"
        count = self.subset.clip_frames()

        def numbered(what: str, folder: str, indices: range, endings: tuple[str, ...]) -> list[str | None]:
            # MS3's release has the video's suffix inside the picture's name.
            stems = ("{name}_{k}", "{name}.mp4_{k}")
            return [
                self._find(
                    clip_id,
                    what,
                    folder,
                    [stem.format(name=name, k=k + 1) + end for stem in stems for end in endings],
                )
                for k in indices
            ]

        masks: list[str | None] = [None] * count
        annotated = self.subset.annotated_frames(self.split)
        found = numbered(MASK, f"{masks_at}/{clip_id}", annotated, (".png",))
        for k, path in zip(annotated, found, strict=True):
            masks[k] = path
        pre_masks = None
        if self.pre_masks:
            places = [f"{at}/{frame_folder}" for at in self._object_pre_masks(released)]
            at = next((place for place in places if self.index.names(place)), places[0])
            pre_masks = numbered(PRE_MASK, at, range(count), ("_mask_color.png", ".png"))
        videos = f"{released}/raw_videos" + (f"/{folder}" if prefix == "s4" else "")
        return self._finish(
            clip_id=clip_id,
            name=name,
            category=category,
            label=None,
            image_paths=numbered(FRAME, f"{frames_at}/{frame_folder}", range(count), PICTURES),
            mask_paths=masks,
            pre_mask_paths=pre_masks,
            rebuilt=bool(rebuilt),
            wav_path=self.index.first(f"{released}/audio_wav/{folder}", [f"{name}.wav"]),
            log_mel_paths=self._log_mels(f"{prefix}_data/audio_log_mel/{folder}", name),
            video_path=self.index.first(videos, [f"{name}.mp4"]),
            sem_classes=(category,) if category else (),
            sound_at=f"{released}/audio_wav/{folder}/{name}.wav",
        )

    def _object_rebuild(self) -> str | None:
        """Folder of the 384 px pictures to use for this split: ours, COMBO's or VCT's."""
        if not self.prefer_rebuilt:
            return None
        in_split = f"/{self.split}" if self.subset.name == "s4" else ""
        places = [f"{base}/{self.subset.name}_data_384" for base in (self.prepared, self.base) if base]
        return next((at for at in places if self.index.names(f"{at}/visual_frames_384{in_split}")), None)

    def _object_pre_masks(self, released: str) -> list[str]:
        if self.pre_mask_root:
            return [self.pre_mask_root]
        # VCT's place, then COMBO's; both show the whole picture, at 384 and at 224 px.
        return [f"{released}_384/pre_SAM_mask_384", f"{released}/pre_SAM_mask"]

    def _semantic_record(self, row: dict[str, str]) -> dict:
        """A clip of AVSBench-semantic: everything in one folder, counted from 0."""
        label, uid, clip_id = row["label"], row["uid"], self.clip_id(row)
        folder = f"{self.base}/{clip_id}"
        frames_at = self._semantic_frames(clip_id)
        labels_at = self._semantic_labels(clip_id, frames_at)
        count = self.subset.clip_frames(label)
        annotated = self.subset.annotated_frames(self.split, label)
        pre_masks = None
        if self.pre_masks:
            at = f"{self.pre_mask_root or f'{self.base}/pre_SAM_mask/AVSBench_semantic'}/{clip_id}"
            frames = frames_at.rpartition("/")[2]
            # COMBO's 224 px training frames are crops, which only their own segments fit.
            same = frames == CROPPED or frames in self.index.names(at)
            at = f"{at}/{frames if same else 'frames'}"
            pre_masks = [
                self._find(clip_id, PRE_MASK, at, [f"{k}_mask_color.png", f"{k}.png"]) for k in range(count)
            ]
        entries = self.index.names(folder)
        return self._finish(
            clip_id=clip_id,
            name=uid,
            category=None,
            label=label,
            image_paths=[
                self._find(clip_id, FRAME, frames_at, [f"{k}{end}" for end in reversed(PICTURES)])
                for k in range(count)
            ],
            mask_paths=[
                self._find(clip_id, MASK, labels_at, [f"{k}.png"]) if k in annotated else None
                for k in range(count)
            ],
            pre_mask_paths=pre_masks,
            rebuilt=not frames_at.endswith("/frames"),
            wav_path=self.index.first(folder, ["audio.wav"]),
            log_mel_paths=self._log_mels(clip_id, "audio"),
            video_path=self.index.first(folder, sorted(name for name in entries if name.endswith(".mp4"))),
            sem_classes=tuple(part for part in row["a_obj"].split("_") if part),
            sound_at=f"{folder}/audio.wav",
        )

    def _semantic_frames(self, clip_id: str) -> str:
        if self.prefer_rebuilt:
            for base in filter(None, (self.prepared, self.base)):
                if SQUARES in self.index.names(f"{base}/{clip_id}"):
                    return f"{base}/{clip_id}/{SQUARES}"
        entries = self.index.names(f"{self.base}/{clip_id}")
        # COMBO's 224 px pictures serve where someone has thrown the large ones away.
        frames = CROPPED if CROPPED in entries and "frames" not in entries else "frames"
        return f"{self.base}/{clip_id}/{frames}"

    def _semantic_labels(self, clip_id: str, frames_at: str) -> str:
        """Folder of the label maps that show what the frames show."""
        frames = frames_at.rpartition("/")[2]
        released = f"{self.base}/{clip_id}/labels_semantic"
        if frames == "frames":
            return released
        small, square = "processed_labels_semantic", "processed_labels_semantic_384"
        # Small maps of training clips go with the cropped frames only; in val and test nothing was cropped.
        kinds = (small,) if frames == CROPPED else (square,) if self.split == "train" else (small,)
        bases = (frames_at.rpartition("/")[0], f"{self.base}/{clip_id}")
        for at in (f"{base}/{kind}" for base in bases for kind in kinds):
            if self.index.names(at):
                return at
        return released

    def _log_mels(self, folder: str, stem: str) -> dict[str, str | None]:
        """Log-mel files in ``folder`` below the release and below what was prepared."""
        places = [f"{base}/{folder}" for base in (self.base, self.prepared) if base]
        return {
            name: next(filter(None, (self.index.first(place, [stem + end]) for place in places)), None)
            for name, end in (("pickle", ".pkl"), ("npy", ".npy"))
        }

    def _find(self, clip_id: str, what: str, folder: str, candidates: list[str]) -> str | None:
        path = self.index.first(folder, candidates)
        if path is None:
            self.missing.add(clip_id, f"{folder}/{candidates[0]}", what)
        return path

    def _finish(self, *, sound_at: str, **fields) -> dict:
        sounds = (fields["wav_path"], fields["video_path"], *fields["log_mel_paths"].values())
        if not any(sounds):
            self.missing.add(fields["clip_id"], sound_at, SOUND)
        flow = flow_path(
            self.flow_root, self.subset.name, self.split, fields["name"], fields["category"], fields["label"]
        )
        return {"subset": self.subset.name, "split": self.split, "flow_path": str(flow), **fields}
