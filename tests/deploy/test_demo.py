"""The demo without a browser: limits, sentences, cancelling, and files that do not stay."""

import threading
from pathlib import Path

import numpy as np
import pytest

from ska_vct.deploy.demo.examples import make_examples
from ska_vct.deploy.demo.files import VisitorFiles
from ska_vct.deploy.demo.segment import Choices, Limits, segment_clip
from ska_vct.deploy.demo.work import CancelledError, Progress, Work
from ska_vct.engine.predictor import Predictor
from ska_vct.synth.video import write_video
from ska_vct.utils.errors import InputError, SkaVctError
from tests.visualization.test_video import read

RATE = 16000


@pytest.fixture
def predictor(tiny_cfg) -> Predictor:
    from detectron2.modeling import build_model

    return Predictor(tiny_cfg, build_model(tiny_cfg))


@pytest.fixture
def clip(tmp_path) -> Path:
    """Two seconds of a moving square with a tone."""
    frames = np.full((20, 48, 64, 3), 60, np.uint8)
    for k in range(20):
        frames[k, 10:30, 2 * k : 2 * k + 16] = (200, 180, 90)
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.int16)
    write_video(tmp_path / "clip.mp4", frames, fps=10, audio=tone[:, None], rate=RATE)
    return tmp_path / "clip.mp4"


def segment(predictor, path, folder, choices=None, limits=None, report=lambda progress: None):
    return segment_clip(predictor, path, folder, choices or Choices(), limits or Limits(), report)


def test_a_clip_becomes_a_video_with_its_audio(predictor, clip, tmp_path):
    seen: list[Progress] = []
    result = segment(predictor, clip, tmp_path / "out", report=seen.append)
    images, audio, rate = read(result.video)
    assert images[-1][0] == pytest.approx(1.9, abs=0.1) and audio.shape[1] / rate == pytest.approx(2, abs=0.15)
    assert images[0][1].shape[1] > 2 * 320, "the motion map stands beside the masks"
    assert "Loudest second: -1" in result.summary
    stages = [progress.stage for progress in seen]
    assert stages[0] == "Reading the file" and stages[-1] == "Done" and "Segmenting" in stages
    assert stages.count("Drawing the result") > 10, "drawing can be followed and cancelled"
    assert max(progress.share for progress in seen) == 1
    alone = segment(predictor, clip, tmp_path / "alone", Choices(motion_map=False))
    assert read(alone.video)[0][0][1].shape[1] < 2 * 320 + 200


def test_what_is_too_large_too_long_or_no_video_is_refused_in_one_sentence(predictor, clip, tmp_path):
    def error_of(path=clip, **limits) -> str:
        with pytest.raises(SkaVctError) as caught:
            segment(predictor, path, tmp_path / "out", limits=Limits(**limits))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "up to 0.001 MB" in error_of(megabytes=0.001)
    (tmp_path / "text.mp4").write_text("no video")
    assert "text.mp4" in error_of(path=tmp_path / "text.mp4")
    long = tmp_path / "long.mp4"
    silence = np.zeros((4 * RATE, 1), np.int16)
    write_video(long, np.zeros((40, 48, 64, 3), np.uint8), fps=10, audio=silence, rate=RATE)
    assert "takes up to 2" in error_of(path=long, seconds=2)
    with pytest.raises(InputError, match="at least a second"):
        Limits(seconds=0)


def test_a_clip_without_audio_goes_on_only_if_that_is_wanted(predictor, clip, tmp_path):
    import av

    silent = tmp_path / "silent.mp4"
    with av.open(str(clip)) as source, av.open(str(silent), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(InputError, match="tick 'Silence if there is no audio'"):
        segment(predictor, silent, tmp_path / "out")
    result = segment(predictor, silent, tmp_path / "out", Choices(no_audio=True))
    assert "The clip is silent." in result.summary
    with av.open(str(result.video)) as video:
        assert [stream.type for stream in video.streams] == ["video"]


def test_work_ends_when_it_is_cancelled_or_left():
    reached = threading.Event()

    def endless(report):
        while True:
            reached.set()
            report(Progress("Counting", 1, 2, "steps"))

    work = Work(endless)
    with pytest.raises(CancelledError):
        for progress in work:
            assert progress.text in ("Starting", "Counting, 1 of 2 steps")
            work.cancel()
    assert reached.is_set() and not work._thread.is_alive()
    left = Work(endless)
    iterator = iter(left)
    next(iterator)
    iterator.close()
    assert not left._thread.is_alive()


def test_work_gives_its_result_or_its_error():
    work = Work(lambda report: 5)
    assert [progress.stage for progress in work] == ["Starting"] and work.result == 5

    def fail(report):
        raise InputError("a sentence")

    with pytest.raises(InputError, match="a sentence"):
        list(Work(fail))


def test_files_of_a_visit_are_deleted_and_those_of_others_stay(tmp_path):
    root = tmp_path / "root"
    for name in ("aa", "bb", "cc"):
        (root / name).mkdir(parents=True)
    mine, shared, outside = root / "aa" / "mine.mp4", root / "bb" / "shared.mp4", tmp_path / "outside.mp4"
    for path in (mine, shared, outside):
        path.write_bytes(b"x")
    files = VisitorFiles(root)
    result = files.folder("first") / "made.mp4"
    result.write_bytes(b"x")
    copy = root / "cc" / "made.mp4"
    copy.write_bytes(b"x")
    other = files.folder("second") / "other.mp4"
    other.write_bytes(b"x")
    for visit, path in (("first", mine), ("first", shared), ("second", shared), ("first", outside)):
        files.add_upload(visit, path)
    files.forget("first")
    assert not mine.exists() and not result.exists() and not copy.exists()
    assert shared.exists() and other.exists() and outside.exists()
    files.forget("second")
    files.forget("never seen")
    assert not shared.exists() and not other.exists() and outside.exists()


def test_examples_are_videos_with_audio_and_are_made_once(tmp_path):
    paths = make_examples(tmp_path)
    assert len(paths) == 3
    images, audio, rate = read(paths[0])
    assert images[0][1].shape == (192, 192, 3) and audio.std() > 0.005
    before = [path.stat().st_mtime_ns for path in paths]
    assert [path.stat().st_mtime_ns for path in make_examples(tmp_path)] == before
