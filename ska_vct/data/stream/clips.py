"""Cuts a stream into clips: sampled frames, the audio of each frame's second, and the flow over it.

Frame k stands for the k-th share of ``1 / fps`` seconds and lies 15/16 into it, as AVSBench samples frames; its
second begins 15/16 s before it. At 1 fps that is what the datasets' mapper reads of a clip.

Shape legend
    T  frames of a clip
    S  flow fields over a frame's second
"""

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import cv2
import numpy as np

from ska_vct.data.audio.files import ClipAudio, usable_16k
from ska_vct.data.audio.log_mel import LOG_OFFSET, NUM_BANDS, PATCH_FRAMES, log_mel_spectrogram, to_mono
from ska_vct.data.audio.time_line import HOPS_PER_SECOND
from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.facts import SAMPLE_TIME, sample_time
from ska_vct.data.flow.extract.clip import FlowRequest, compute_clip
from ska_vct.data.flow.frame_pairs import limited_size, pairs_of_video
from ska_vct.data.flow.methods.base import FlowMethod, ImagePairs, frame_pairs
from ska_vct.data.flow.names import MIN_SIDE
from ska_vct.data.flow.pair_search import Kept, PairSearch, Shown
from ska_vct.data.flow.store import FlowRecord
from ska_vct.utils.errors import InputError
from ska_vct.utils.media.errors import AudioError, VideoError

from .sources import Audio, Source

QUIETEST = -100.0
PREVIEW = 224
# A frame this near after the wanted moment is the one that is shown then: time stamps are fractions.
_SAME = 1e-4
# Audio read beyond a clip's end, seconds: windows and the resampler's filter reach there.
_MARGIN = 1.0
# A share of a second at the end counts where this much of it is there.
_WHOLE = 0.5
# Seconds without a frame; more is a damaged time stamp.
_MAX_PAUSE = 3600.0
# Shorter audio cannot be resampled, seconds.
_SHORTEST = 0.01


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """How a stream is cut.

    Attributes:
        fps: frames sampled per second.
        length: T, frames of a clip; the last clip may have fewer.
        geometry: from a video's image to the network's.
        flow: what flow is computed, and by what; None for none.
        first: clip to begin with; those before it are passed over, decoded but not computed.
    """

    fps: float = 1.0
    length: int = 5
    geometry: ClipGeometry
    flow: tuple[FlowRequest, FlowMethod] | None = None
    first: int = 0

    def __post_init__(self):
        if not (math.isfinite(self.fps) and 0.01 <= self.fps <= 100):
            raise InputError(f"fps is {self.fps}; 0.01 to 100 frames per second can be segmented.")
        if self.length < 1:
            raise InputError(f"A clip has {self.length} frames; it must have at least 1.")

    def moment(self, row: int) -> float:
        """When frame ``row`` is shown, seconds."""
        return sample_time(float(row)) / self.fps

    def second(self, row: int) -> float:
        """Where the second of frame ``row`` begins."""
        return max(0.0, self.moment(row) - SAMPLE_TIME)

    def count(self, end: float) -> int:
        """Frames of a video that ends after ``end`` seconds."""
        return max(1, math.floor(end * self.fps + _WHOLE))


@dataclass(kw_only=True)
class StreamClip:
    """Frames ``first`` to ``first + T - 1`` of a stream.

    Attributes:
        first: index of the first frame.
        times: float64 (T,), when the frames are shown, seconds from the video's first frame.
        size: height and width of the video.
        images: uint8 (T, H, W, 3), RGB, at the network's size.
        previews: uint8 (T, h, w, 3), the same in the video's proportions, their short side at most ``PREVIEW``.
        audio: of each frame's second.
        level: float32 (T,), its root mean square in dB of full scale, at least ``QUIETEST``.
        flow: of each frame's second; None where none is wanted.
        spent: seconds of processor time by stage: decode, audio, flow.
    """

    first: int
    times: np.ndarray
    size: tuple[int, int]
    images: np.ndarray
    previews: np.ndarray
    audio: ClipAudio
    level: np.ndarray
    flow: FlowRecord | None
    spent: Counter = field(default_factory=Counter)


def stream_clips(source: Source, plan: StreamPlan) -> Iterator[StreamClip]:
    """Read a source once and yield its clips; memory is that of a clip.

    Raises:
        VideoError, AudioError, FlowError: the file cannot be decoded; one sentence that names it.
    """
    with closing(source.audio()) as audio, closing(source.frames()) as frames:  # type: ignore[type-var]
        yield from _Cutter(source, plan, audio).run(frames)


class _Cutter:
    def __init__(self, source: Source, plan: StreamPlan, audio: Audio):
        self._source, self._plan, self._audio = source, plan, audio
        request = plan.flow[0] if plan.flow else FlowRequest()
        self._series = request.series
        self._search: PairSearch | None = None
        if plan.flow and source.pairs:
            self._search = PairSearch(lambda size: _flow_size(size, request.long_side))
        self._within = (np.arange(self._series) + 0.5) / self._series
        self._wanted = 0  # frames whose flow has been asked for
        self._images: dict[int, np.ndarray] = {}
        self._previews: dict[int, np.ndarray] = {}
        self._whole: dict[int, np.ndarray] = {}
        self._next = 0  # frame to be sampled
        self._row = plan.first * plan.length  # first frame of the clip being made
        self._spent: Counter = Counter()

    def run(self, frames: Iterator[Shown]) -> Iterator[StreamClip]:
        last: Shown | None = None
        while True:
            start = time.thread_time()
            shown = next(frames, None)
            if shown is None:
                break
            if last and shown.time - last.time > _MAX_PAUSE:
                raise VideoError(
                    f"Video {self._source.name} jumps from second {last.time:.0f} to {shown.time:.0f}; its time "
                    "stamps are damaged: convert it again."
                )
            if last:
                self._sample_until(shown.time, last)
            self._ask(shown.time)
            if self._search:
                self._search.add(shown)
            last = shown
            self._spent["decode"] += time.thread_time() - start
            while self._is_complete(self._row + self._plan.length):
                yield self._clip(last, self._plan.length)
        if last is None:
            raise VideoError(f"Video {self._source.name} holds no frame; copy or make it again.")
        count = self._plan.count(last.time + self._source.lasts)
        while self._next < count:
            self._sample(last)
        self._ask(math.inf, count)
        if self._search:
            self._search.finish()
        while self._row < count:
            yield self._clip(last, min(self._plan.length, count - self._row))

    def _sample_until(self, now: float, last: Shown) -> None:
        """Frames whose moment lies before ``now`` show ``last``."""
        while self._plan.moment(self._next) + _SAME < now:
            self._sample(last)

    def _sample(self, shown: Shown) -> None:
        if self._next >= self._row:
            whole = shown.read(shown.size)
            self._images[self._next] = self._plan.geometry.apply_images([whole])[0]
            self._previews[self._next] = _preview(whole)
            if self._plan.flow and not self._search:
                self._whole[self._next] = whole
        self._next += 1

    def _ask(self, now: float, count: int | None = None) -> None:
        """Ask for the flow of frames whose second has begun."""
        while self._search and (count is None or self._wanted < count):
            begin = self._plan.second(self._wanted)
            if begin > now:
                return
            if self._wanted >= self._row:
                moments = [self._plan.moment(self._wanted)] if self._series == 1 else begin + self._within
                for index, moment in enumerate(moments):
                    self._search.want(moment, (self._wanted, index))
            self._wanted += 1

    def _is_complete(self, stop: int) -> bool:
        if self._next < stop:
            return False
        return self._search is None or all(
            (row, index) in self._search.found for row in range(self._row, stop) for index in range(self._series)
        )

    def _clip(self, last: Shown, length: int) -> StreamClip:
        plan, rows = self._plan, range(self._row, self._row + length)
        start = time.thread_time()
        audio, level = self._hear(rows)
        heard = time.thread_time()
        flow = self._flow(rows, last) if plan.flow else None
        self._spent.update(audio=heard - start, flow=time.thread_time() - heard)
        clip = StreamClip(
            first=self._row,
            times=np.array([plan.moment(row) for row in rows]),
            size=last.size,
            images=np.stack([self._images.pop(row) for row in rows]),
            previews=np.stack([self._previews.pop(row) for row in rows]),
            audio=audio,
            level=level,
            flow=flow,
            spent=self._spent,
        )
        self._row += length
        self._spent = Counter()
        return clip

    def _hear(self, rows: range) -> tuple[ClipAudio, np.ndarray]:
        seconds = np.array([self._plan.second(row) for row in rows])
        begin = float(seconds[0])
        samples = self._audio.window(begin, float(seconds[-1]) - begin + 1 + _MARGIN)
        rate = self._audio.rate
        spectrogram = np.zeros((0, NUM_BANDS))
        if len(samples) >= _SHORTEST * rate:
            try:
                spectrogram = log_mel_spectrogram(usable_16k(samples, rate))
            except AudioError as error:
                raise AudioError(f"The audio of {self._source.name} {error}; make it again.") from None
        # Patches lie on a clip's 0.96 s grid as VGGish's do, whole seconds on its own.
        patches = [
            _cut(spectrogram, round(PATCH_FRAMES * (second - begin)), PATCH_FRAMES, math.log(LOG_OFFSET))
            for second in seconds
        ]
        whole = [
            _cut(spectrogram, round(HOPS_PER_SECOND * (second - begin)), HOPS_PER_SECOND, math.nan)
            for second in seconds
        ]
        wave = to_mono(samples)
        first = np.rint((seconds - begin) * rate).astype(int)
        level = np.array([decibels(wave[start : start + rate]) for start in first], np.float32)
        return ClipAudio(np.stack(patches), np.stack(whole)), level

    def _flow(self, rows: range, last: Shown) -> FlowRecord:
        request, method = self._plan.flow  # type: ignore[misc]
        record = {"clip_id": self._source.name, "image_paths": list(rows)}
        return compute_clip(record, request, method, self._pairs(rows, last))

    def _pairs(self, rows: range, last: Shown) -> ImagePairs | None:
        """The images between which the flow of some frames lies; None where there is only one."""
        if self._search is None:
            images = np.stack([self._whole.pop(row) for row in rows])
            return frame_pairs(images, clip_id=self._source.name) if len(images) > 1 else None
        found: list[tuple[Kept, Kept]] = []
        for row in rows:
            for index in range(self._series):
                if (row, index) not in self._search.found:
                    return None
                found.append(self._search.found.pop((row, index)))
        fps = self._source.fps or 1 / last.time
        return pairs_of_video(found, shape=(len(rows), self._series), size=last.size, fps=fps)


def decibels(samples: np.ndarray) -> float:
    """Root mean square of mono samples in dB of full scale, at least ``QUIETEST``."""
    power = float(np.mean(np.square(samples))) if len(samples) else 0.0
    return max(QUIETEST, 10 * math.log10(power)) if power > 0 else QUIETEST


def _flow_size(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    """Size at which flow is computed: as for datasets, but never too small for the methods."""
    height, width = limited_size(size, long_side)
    return max(height, MIN_SIDE), max(width, MIN_SIDE)


def _preview(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(1.0, PREVIEW / min(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image


def _cut(spectrogram: np.ndarray, first: int, hops: int, fill: float) -> np.ndarray:
    """``hops`` rows of a spectrogram, float32 (1, hops, 64); those it does not hold are filled."""
    result = np.full((1, hops, NUM_BANDS), fill, np.float32)
    found = spectrogram[first : first + hops]
    result[0, : len(found)] = found
    return result
