"""Clips under modified conditions: with other audio or other motion (docs/scores.md).

Replacement audio is synthesised as a waveform and goes through the same VGGish front end as a clip's own.
"""

import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from ska_vct.data.audio.files import ClipAudio, load_audio, samples_to_audio
from ska_vct.data.audio.log_mel import SAMPLE_RATE, resample_to_16k, to_mono
from ska_vct.data.audio.negatives import NOISE_LEVEL, silence, white_noise
from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.data.flow.store import FlowError
from ska_vct.experiments.robustness.donors import any_donors, clip_rng, off_screen_donors
from ska_vct.experiments.robustness.names import CONDITIONS, DELAYS
from ska_vct.structures.clip import SILENT_MOVING, SILENT_STILL, SOUNDING, ClipError
from ska_vct.synth.truth import ClipTruth, TruthError, has_objects, read_objects
from ska_vct.utils.errors import InputError
from ska_vct.utils.media.audio import read_video_audio, read_wav
from ska_vct.utils.media.errors import AudioError


class ConditionMapper:
    """Loads a clip once and returns it under several conditions.

    The clips of a record share images, masks and every other field that a condition does not change; each names
    its ``condition``. Clips whose objects are all known get ``object_groups`` (``ska_vct/structures/clip.py``).

    Attributes:
        records: all clips of the split.
        conditions: conditions that clips are returned under, in this order.
        audio_donors, flow_donors: clip id -> ``Donor``; empty where nothing is borrowed.

    Args:
        mapper: loads the clip as it is; made for testing.
        records: all clips of the split, from which audio and flow are borrowed.
        conditions: of ``CONDITIONS``, in the order wanted.
        root: of the release, to read the objects of a synthetic one; None for no object groups.
        seed: of the noise and of the choice of donors.
        noise_level: root mean square of the noise, of full scale.

    Raises:
        ValueError: unknown condition, or ``mapper`` augments.
        ClipError: a condition needs a donor, but there is only one clip.
    """

    def __init__(
        self,
        *,
        mapper: ClipMapper,
        records: Sequence[Mapping],
        conditions: Sequence[str],
        root: str | os.PathLike | None = None,
        seed: int = 0,
        noise_level: float = NOISE_LEVEL,
    ):
        check_conditions(conditions)
        if mapper.is_train:
            raise InputError("Conditions apply to test clips; build the mapper with is_train=False.")
        self.conditions = tuple(conditions)
        self.records = records
        self._mapper = mapper
        self._root = root
        self._seed = seed
        self._noise_level = noise_level
        self.audio_donors = off_screen_donors(records, root or "", seed=seed) if "off_screen" in conditions else {}
        self.flow_donors = (
            any_donors(records, seed=seed, purpose="other_flow") if "other_flow" in conditions else {}
        )

    def __call__(self, record: Mapping) -> list[dict]:
        """The clip under each condition.

        Raises:
            ClipError: a file is missing or unusable; the sentence names clip and file.
        """
        clip = self._mapper(record)
        try:
            if self._root is not None and has_objects(self._root, record):
                truth = read_objects(self._root, record)
                clip["object_groups"] = torch.from_numpy(object_groups(truth, self._mapper.eval_size))
            return [clip | self._changed(name, record, clip) | {"condition": name} for name in self.conditions]
        except (AudioError, FlowError, TruthError) as error:
            raise ClipError(f"Clip '{record['clip_id']}': {error}") from None

    def notes(self) -> list[str]:
        """Remarks on how clips were changed, to be printed beside the scores."""
        if not self.audio_donors:
            return []
        known = sum(donor.is_other_group for donor in self.audio_donors.values())
        total = len(self.audio_donors)
        text = f"off_screen: {known} of {total} clips got the audio of a clip of another class group"
        if known < total:
            text += (
                f", {total - known} that of an arbitrary clip, because classes are unknown or no clip is of "
                "another group"
            )
        return [f"{text}."]

    def _changed(self, condition: str, record: Mapping, clip: Mapping) -> dict[str, torch.Tensor]:
        """The fields that a condition changes; none for flow conditions where the model reads no flow."""
        num_frames = len(clip["images"])
        if condition in _AUDIO:
            audio = _AUDIO[condition](self, record, num_frames)
            return {"log_mel": torch.from_numpy(audio.log_mel), "audio_second": torch.from_numpy(audio.seconds)}
        if condition == "still" and "flow" in clip:
            return {"flow": torch.zeros_like(clip["flow"])}
        if condition == "other_flow" and "flow" in clip:
            donor = self.flow_donors[record["clip_id"]].record
            flow = self._mapper.load_flow(donor)
            # The flow of a shorter clip is repeated.
            return {"flow": torch.from_numpy(np.resize(flow, (num_frames, *flow.shape[1:])))}
        return {}

    def _silence(self, record: Mapping, num_seconds: int) -> ClipAudio:
        return silence(num_seconds)

    def _noise(self, record: Mapping, num_seconds: int) -> ClipAudio:
        return white_noise(clip_rng(self._seed, record["clip_id"], "noise"), num_seconds, self._noise_level)

    def _off_screen(self, record: Mapping, num_seconds: int) -> ClipAudio:
        donor = self.audio_donors[record["clip_id"]].record
        return load_audio(donor, num_seconds, self._mapper.audio_source)


def _late_by(delay: float) -> Callable[[ConditionMapper, Mapping, int], ClipAudio]:
    return lambda mapper, record, num_seconds: delayed(record, num_seconds, delay)


_AUDIO: dict[str, Callable[[ConditionMapper, Mapping, int], ClipAudio]] = {
    "silence": ConditionMapper._silence,
    "noise": ConditionMapper._noise,
    "off_screen": ConditionMapper._off_screen,
    **{name: _late_by(delay) for name, delay in DELAYS.items()},
}


def check_conditions(conditions: Sequence[str]) -> None:
    """Raise a ``ValueError`` for unknown or repeated conditions, or an empty list."""
    unknown = [name for name in conditions if name not in CONDITIONS]
    if unknown or not conditions:
        raise InputError(f"Conditions are {', '.join(CONDITIONS)}; got {', '.join(unknown) or 'none'}.")
    if len(set(conditions)) < len(conditions):
        raise InputError(f"A condition is named twice: {', '.join(conditions)}.")


def delayed(record: Mapping, num_seconds: int, delay: float) -> ClipAudio:
    """A clip's audio shifted by ``delay`` seconds; its end wraps around to the start.

    Raises:
        AudioError: the clip has neither a wav file nor a video.
    """
    if record["wav_path"] is not None:
        samples, rate = read_wav(record["wav_path"])
    elif record["video_path"] is not None:
        samples, rate = read_video_audio(record["video_path"])
    else:
        raise AudioError(
            "it has neither a wav file nor a video, so its audio cannot be delayed (condition 'delayed')."
        )
    wave = resample_to_16k(to_mono(samples), rate)[: num_seconds * SAMPLE_RATE]
    wave = np.pad(wave, (0, num_seconds * SAMPLE_RATE - len(wave)))
    return samples_to_audio(np.roll(wave, round(delay * SAMPLE_RATE)), SAMPLE_RATE, num_seconds)


def object_groups(truth: ClipTruth, size: tuple[int, int]) -> np.ndarray:
    """What each pixel's object does in each frame, resized exactly as the masks are.

    Returns:
        uint8 (T, *size): ``SOUNDING``, ``SILENT_STILL``, ``SILENT_MOVING``, or 0 where there is no object.
    """
    codes = np.where(truth.sounding, SOUNDING, np.where(truth.moving, SILENT_MOVING, SILENT_STILL))
    groups = (truth.masks * codes[:, :, None, None].astype(np.uint8)).sum(axis=1, dtype=np.uint8)
    return ClipGeometry.resize(size).apply_labels(groups)
