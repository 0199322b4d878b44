"""Synthetic clips in memory, without images: audio, flow, and the objects' areas on the flow grid.

Shape legend: F frames of all clips, O most objects of any clip, S flow fields per second, g x g map.
"""

import os
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from ska_vct.data.audio.files import load_audio
from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import FlowOptions, prepare_flow
from ska_vct.data.flow.store import FlowRecord, read_flow
from ska_vct.synth.truth import read_objects

# Cells; objects with a smaller visible area are not judged.
_SMALLEST = 1.0


@dataclass(frozen=True, kw_only=True)
class StudyClips:
    """The data of some clips that a map-only study reads.

    Attributes:
        log_mel: float32 (F, 1, 96, 64), VGGish's patches.
        audio_second: float32 (F, 1, 100, 64), the frames' own seconds.
        shares: float32 (F, O, g, g), how much of each cell shows each object.
        sounding, silent: bool (F, O), visible objects that sound, or are silent, in the frame's second.
        stored: flow of each clip, as it is stored.
    """

    log_mel: Tensor
    audio_second: Tensor
    shares: Tensor
    sounding: Tensor
    silent: Tensor
    stored: list[FlowRecord]
    _flows: dict = field(default_factory=dict)

    def flow(self, options: FlowOptions, size: tuple[int, int]) -> Tensor:
        """Flow as a model with these options reads it, computed once: float32 (F, S, 2, gh, gw).

        Args:
            options: the keys of ``INPUT.FLOW``.
            size: (H, W) of the model's images.
        """
        key = (options, size)
        if key not in self._flows:
            geometry = ClipGeometry.resize(size)
            clips = [
                prepare_flow(clip, options, rows=np.arange(len(clip.flow)), geometry=geometry)
                for clip in self.stored
            ]
            self._flows[key] = torch.from_numpy(np.concatenate(clips))
        return self._flows[key]


def load_clips(
    root: str | os.PathLike,
    split: str,
    *,
    subset: str,
    grid: tuple[int, int],
    limit: int = 0,
    progress: bool = True,
) -> StudyClips:
    """Read a split of a synthetic release.

    Args:
        root: of the release.
        split: ``train``, ``val`` or ``test``.
        subset: ``s4``, ``ms3`` or ``avss``.
        grid: rows and columns of the motion map.
        limit: number of clips from the start; 0 for all.
        progress: show a bar.

    Raises:
        DatasetError, TruthError, AudioError, FlowError: a file is missing or unusable; the sentence names it.
    """
    log_mel, audio_second, shares, sounding, stored = [], [], [], [], []
    records = load_records(subset, split, root)[: limit or None]
    for record in tqdm(records, desc=f"Reading {root} {split}", unit="clip", delay=1, disable=not progress):
        truth, frames = read_objects(root, record), len(record["image_paths"])
        audio = load_audio(record, frames)
        log_mel.append(torch.from_numpy(audio.log_mel))
        audio_second.append(torch.from_numpy(audio.seconds))
        stored.append(read_flow(record["flow_path"], clip_id=record["clip_id"], num_frames=frames))
        shares.append(F.adaptive_avg_pool2d(torch.from_numpy(truth.masks).float(), tuple(grid)))
        sounding.append(torch.from_numpy(truth.sounding))
    objects = max(clip.shape[1] for clip in shares)
    shares = torch.cat([F.pad(clip, (0, 0, 0, 0, 0, objects - clip.shape[1])) for clip in shares])
    sounding = torch.cat([F.pad(clip, (0, objects - clip.shape[1])) for clip in sounding])
    visible = shares.sum((2, 3)) >= _SMALLEST
    return StudyClips(
        log_mel=torch.cat(log_mel),
        audio_second=torch.cat(audio_second),
        shares=shares,
        sounding=sounding & visible,
        silent=~sounding & visible,
        stored=stored,
    )
