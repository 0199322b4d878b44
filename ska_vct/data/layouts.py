"""Where the files of a clip lie in the three released layouts and in COMBO's and VCT's rebuilds (spec: data.md).

Each reader turns one row of the subset's table into a record; ``avsbench.py`` describes the record's fields.
"""

from dataclasses import dataclass

from ska_vct.data.flow import flow_path
from ska_vct.data.folders import FolderIndex, MissingFiles
from ska_vct.data.subsets import Subset

PICTURES = (".png", ".jpg", ".jpeg")


@dataclass(kw_only=True)
class Reader:
    """What is the same for all clips of one split.

    Attributes:
        subset: the facts of the subset.
        split: ``train``, ``val`` or ``test``.
        base: the release's folder.
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
    flow_root: str
    prefer_rebuilt: bool
    pre_masks: bool
    pre_mask_root: str
    index: FolderIndex
    missing: MissingFiles

    def record(self, row: dict[str, str]) -> dict:
        """The record of one row of the table."""
        return self.semantic_record(row) if self.subset.name == "avss" else self.object_record(row)

    def object_record(self, row: dict[str, str]) -> dict:
        """A clip of AVSBench-object: S4 has category folders, MS3 none, and no split folder for its frames."""
        name, category, prefix = row["name"], row.get("category"), self.subset.name
        folder = "/".join([self.split, *([category] if category else [])])
        clip_id = f"{folder}/{name}"
        frame_folder = f"{folder}/{name}" if prefix == "s4" else name
        released, rebuilt = f"{self.base}/{prefix}_data", f"{self.base}/{prefix}_data_384"
        in_split = f"/{self.split}" if prefix == "s4" else ""
        use_rebuilt = self.prefer_rebuilt and bool(self.index.names(f"{rebuilt}/visual_frames_384{in_split}"))
        frames_at = f"{rebuilt}/visual_frames_384" if use_rebuilt else f"{released}/visual_frames"
        masks_at = f"{released}/gt_masks"
        if use_rebuilt:
            size = "384" if self.split == "train" else "224"
            if self.index.names(f"{rebuilt}/gt_masks_{size}/{self.split}"):
                masks_at = f"{rebuilt}/gt_masks_{size}"
        count = self.subset.clip_frames()

        def numbered(folder: str, indices: range, endings: tuple[str, ...]) -> list[str | None]:
            # MS3's release has the video's suffix inside the picture's name.
            stems = ("{name}_{k}", "{name}.mp4_{k}")
            return [
                self._find(
                    clip_id, folder, [stem.format(name=name, k=k + 1) + end for stem in stems for end in endings]
                )
                for k in indices
            ]

        masks: list[str | None] = [None] * count
        annotated = self.subset.annotated_frames(self.split)
        for k, path in zip(annotated, numbered(f"{masks_at}/{folder}/{name}", annotated, (".png",)), strict=True):
            masks[k] = path
        pre_masks = None
        if self.pre_masks:
            at = self.pre_mask_root or f"{rebuilt}/pre_SAM_mask_384"
            pre_masks = numbered(f"{at}/{frame_folder}", range(count), ("_mask_color.png", ".png"))
        videos = f"{released}/raw_videos" + (f"/{folder}" if prefix == "s4" else "")
        return self._finish(
            clip_id=clip_id,
            name=name,
            category=category,
            label=None,
            image_paths=numbered(f"{frames_at}/{frame_folder}", range(count), PICTURES),
            mask_paths=masks,
            pre_mask_paths=pre_masks,
            rebuilt=use_rebuilt,
            wav_path=self.index.first(f"{released}/audio_wav/{folder}", [f"{name}.wav"]),
            log_mel_paths=self._log_mels(f"{released}/audio_log_mel/{folder}", name),
            video_path=self.index.first(videos, [f"{name}.mp4"]),
            sem_classes=(category,) if category else (),
            sound_at=f"{released}/audio_wav/{folder}/{name}.wav",
        )

    def semantic_record(self, row: dict[str, str]) -> dict:
        """A clip of AVSBench-semantic: everything in one folder, counted from 0."""
        label, uid = row["label"], row["uid"]
        clip_id, folder = f"{label}/{uid}", f"{self.base}/{label}/{uid}"
        entries = self.index.names(folder)
        use_rebuilt = self.prefer_rebuilt and "processed_frames_384" in entries
        frames = "processed_frames_384" if use_rebuilt else "frames"
        labels = "labels_semantic"
        if use_rebuilt and "processed_labels_semantic" in entries:
            labels = "processed_labels_semantic"
        count = self.subset.clip_frames(label)
        annotated = self.subset.annotated_frames(self.split, label)
        pre_masks = None
        if self.pre_masks:
            at = f"{self.pre_mask_root or f'{self.base}/pre_SAM_mask/AVSBench_semantic'}/{label}/{uid}"
            at = f"{at}/{frames if frames in self.index.names(at) else 'frames'}"
            pre_masks = [self._find(clip_id, at, [f"{k}_mask_color.png", f"{k}.png"]) for k in range(count)]
        return self._finish(
            clip_id=clip_id,
            name=uid,
            category=None,
            label=label,
            image_paths=[
                self._find(clip_id, f"{folder}/{frames}", [f"{k}{end}" for end in reversed(PICTURES)])
                for k in range(count)
            ],
            mask_paths=[
                self._find(clip_id, f"{folder}/{labels}", [f"{k}.png"]) if k in annotated else None
                for k in range(count)
            ],
            pre_mask_paths=pre_masks,
            rebuilt=use_rebuilt,
            wav_path=self.index.first(folder, ["audio.wav"]),
            log_mel_paths=self._log_mels(folder, "audio"),
            video_path=self.index.first(folder, sorted(name for name in entries if name.endswith(".mp4"))),
            sem_classes=tuple(part for part in row["a_obj"].split("_") if part),
            sound_at=f"{folder}/audio.wav",
        )

    def _log_mels(self, folder: str, stem: str) -> dict[str, str | None]:
        return {
            "pickle": self.index.first(folder, [f"{stem}.pkl"]),
            "npy": self.index.first(folder, [f"{stem}.npy"]),
        }

    def _find(self, clip_id: str, folder: str, candidates: list[str]) -> str | None:
        path = self.index.first(folder, candidates)
        if path is None:
            self.missing.add(clip_id, f"{folder}/{candidates[0]}")
        return path

    def _finish(self, *, sound_at: str, **fields) -> dict:
        sounds = (fields["wav_path"], fields["video_path"], *fields["log_mel_paths"].values())
        if not any(sounds):
            self.missing.add(fields["clip_id"], sound_at)
        flow = flow_path(
            self.flow_root, self.subset.name, self.split, fields["name"], fields["category"], fields["label"]
        )
        return {"subset": self.subset.name, "split": self.split, "flow_path": str(flow), **fields}
