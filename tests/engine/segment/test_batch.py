"""Files of segmented videos: complete, readable by others, made once, and whole after an interruption."""

import csv
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from ska_vct.cli.predict import main
from ska_vct.engine.segment import batch
from ska_vct.engine.segment.batch import result_names, segment_paths
from ska_vct.engine.segment.outputs import OutputOptions
from ska_vct.engine.segment.stream import SegmentOptions
from ska_vct.evaluation import load_coco
from ska_vct.utils.errors import InputError, SkaVctError


def run(predictor, paths, out, *, save=("masks", "overlay", "json", "sheet"), heat=False, **options):
    return segment_paths(
        predictor, paths, out, SegmentOptions(**options), OutputOptions(save=save, heat=heat), progress=False
    )


def masks_of(folder: Path) -> np.ndarray:
    count = len(list(folder.glob("*.png")))
    return np.stack([np.asarray(Image.open(folder / f"{folder.name}_{k + 1}.png")) for k in range(count)])


def test_all_files_of_a_video(predictor, make_video, tmp_path):
    path = make_video(tmp_path / "a b.mp4", seconds=7)
    (report,) = run(predictor, [path], tmp_path / "out", threshold=0.4)
    folder = tmp_path / "out" / "a b"
    assert not report.error and report.frames == 7 and report.size == [48, 64] and report.seconds == 7
    found = predictor.segment(path, threshold=0.4)
    np.testing.assert_array_equal(masks_of(folder), 255 * found.labels)
    coco = load_coco(folder / "masks.json", binary=True)
    np.testing.assert_array_equal(coco.load("a b", range(7)), found.labels)
    with open(folder / "scores.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["begin"]) for row in rows] == list(range(7))
    np.testing.assert_allclose([float(row["score"]) for row in rows], found.class_scores[:, 1], atol=1e-3)
    np.testing.assert_allclose([float(row["audio_dbfs"]) for row in rows], found.audio_level, atol=0.1)
    with Image.open(folder / "sheet.jpg") as sheet:
        assert sheet.width > 7 * 80
    with av.open(str(folder / "overlay.mp4")) as video:
        stream, sound = video.streams.video[0], video.streams.audio[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, sound.codec_context.name) == (
            "h264", "yuv420p", "aac",
        )  # fmt: skip
        assert sum(1 for _ in video.decode(stream)) == 70
        assert video.duration / 1e6 == pytest.approx(7, abs=0.15)
    data = (folder / "overlay.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat"), "the index comes first, so that browsers begin to play"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert 'src="a%20b/overlay.mp4"' in page and "http" not in page
    assert sorted(p.name for p in folder.iterdir() if p.suffix != ".png") == [
        "masks.json", "overlay.mp4", "scores.csv", "sheet.jpg", "summary.json",
    ]  # fmt: skip


def test_a_stopped_run_goes_on(predictor, make_video, tmp_path, monkeypatch):
    path = make_video(tmp_path / "v.mp4", seconds=12)
    run(predictor, [path], tmp_path / "whole")
    real, calls = batch.store_part, []

    def stop_at_the_third(*args):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(1)
        real(*args)

    monkeypatch.setattr(batch, "store_part", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        run(predictor, [path], tmp_path / "out")
    monkeypatch.setattr(batch, "store_part", lambda *args: (calls.append(1), real(*args)))
    (report,) = run(predictor, [path], tmp_path / "out")
    assert len(calls) == 3 and report.frames == 12, "two clips of five seconds were there, the third was made"
    for name in ("scores.csv", "masks.json"):
        assert (tmp_path / "out/v" / name).read_text() == (tmp_path / "whole/v" / name).read_text()
    np.testing.assert_array_equal(masks_of(tmp_path / "out/v"), masks_of(tmp_path / "whole/v"))
    # Again: nothing is made. With another option: all is.
    assert run(predictor, [path], tmp_path / "out")[0].kept and len(calls) == 3
    (report,) = run(predictor, [path], tmp_path / "out", fps=0.5)
    assert not report.kept and report.frames == 6 and len(masks_of(tmp_path / "out/v")) == 6


def test_another_threshold_of_the_model_makes_the_files_again(predictor, make_video, tmp_path):
    path = make_video(tmp_path / "v.mp4", seconds=2)
    run(predictor, [path], tmp_path / "out", save=("masks",))
    predictor.cfg.TEST.THRESHOLD = 0.999
    (report,) = run(predictor, [path], tmp_path / "out", save=("masks",))
    assert not report.kept and not masks_of(tmp_path / "out/v").any()
    (report,) = run(predictor, [path], tmp_path / "out", save=("masks",), threshold=0.999)
    assert report.kept, "the same rule, said in another way"


def test_a_batch_survives_a_bad_file(predictor, make_video, tmp_path, capsys):
    weights = str(predictor.model.save_pretrained(tmp_path / "model"))
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_text("no video")
    make_video(folder / "b.mp4", seconds=1)
    make_video(folder / "c.mkv", seconds=1, tracks=(1, 0))
    (folder / "notes.txt").write_text("x")
    words = ["--weights", weights, "--device", "cpu", "--out", str(tmp_path / "out"), str(folder)]
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 1
    text = capsys.readouterr().out
    assert "1 of 3 videos segmented" in text and "a.mp4 cannot be decoded" in text and "c.mkv has no audio" in text
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "1 video segmented, 2 failed" in page and "cannot be decoded" in page
    (folder / "a.mp4").unlink()
    main([*words, "--no-audio", "--save", "sheet", "--heat"])
    assert "2 of 2 videos segmented" in capsys.readouterr().out
    assert not list((tmp_path / "out" / "c").glob("*.png")) and (tmp_path / "out" / "c" / "sheet.jpg").is_file()


def test_heat_and_silence_and_frames_per_second(predictor, make_video, tmp_path):
    path = make_video(tmp_path / "v.mp4", seconds=2, tracks=(1, 0), size=(20, 500))
    save = ("overlay", "sheet")
    (report,) = run(predictor, [path], tmp_path / "out", no_audio=True, fps=4, heat=True, save=save)
    assert report.frames == 8 and set(report.files) == {"table", *save}
    with av.open(str(tmp_path / "out/v/overlay.mp4")) as video:
        assert not video.streams.audio and video.duration / 1e6 == pytest.approx(2, abs=0.1)


def test_names_of_results_tell_videos_apart(tmp_path):
    paths = [tmp_path / name for name in ("x/demo.mp4", "x/demo.mkv", "x/other.mp4", "y/demo.mp4", "y/Other.avi")]
    assert result_names(paths) == ["demo.mp4", "demo.mkv", "other.mp4", "demo.mp4 2", "Other.avi"]


def test_wrong_options_are_said_before_anything_is_made(predictor, make_video, tmp_path):
    path = make_video(tmp_path / "v.mp4", seconds=1)
    for options, words in (
        ({"save": ("mask",)}, "'mask' cannot be saved"),
        ({"flow": "magic"}, "no flow method 'magic'"),
        ({"classes": ("dgo",)}, "no class 'dgo'"),
    ):
        with pytest.raises((InputError, ValueError), match=words):
            run(predictor, [path], tmp_path / "out", **options)
    with pytest.raises(InputError, match="neither videos"):
        run(predictor, [tmp_path / "out"], tmp_path / "out")


def test_places_that_cannot_be_written_and_addresses_are_one_sentence(predictor, make_video, tmp_path):
    path = make_video(tmp_path / "v.mp4", seconds=1)
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        with pytest.raises(SkaVctError, match="Cannot write to folder .*; choose another output folder"):
            run(predictor, [path], out)
    reports = run(predictor, ["https://example.com/a.mp4", path], tmp_path / "out", save=())
    assert "'https://example.com/a.mp4' is an address" in reports[0].error and not reports[1].error
