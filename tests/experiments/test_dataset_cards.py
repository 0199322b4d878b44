"""The images and videos of the benchmark's page, made for a miniature benchmark."""

from dataclasses import replace

import av
import numpy as np
import pytest
from PIL import Image

from ska_vct.data.catalog import load_records
from ska_vct.experiments import dataset_cards as benchmark_cards
from ska_vct.experiments.dataset_cards import choose_clips, make_cards
from ska_vct.synth import SynthSettings, generate
from ska_vct.synth.splits import BENCHMARK_VERSION, BENCHMARKS
from ska_vct.synth.truth import read_objects


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("cards")
    scenes = {"plain": 1.0, "mover": 1.0}
    settings = SynthSettings(subset="ms3", train=0, val=0, test=5, size=48, flow_size=12, series=5, scenes=scenes)
    generate(root / "plain", settings, jobs=1, progress=False)
    return root


def test_clips_differ_in_kind_and_roles_before_they_repeat(root):
    records = load_records("ms3", "test", root / "plain")
    truths = {record["clip_id"]: read_objects(root / "plain", record) for record in records}
    roles = [tuple(sorted(truths[record["clip_id"]].roles)) for record in choose_clips(records, root / "plain", 5)]
    different = len({(truth.kind, tuple(sorted(truth.roles))) for truth in truths.values()})
    assert len(roles) == 5 and len(set(roles[:different])) == different
    assert len(set(roles[0])) == 2  # two objects that do different things come first


def test_a_strip_and_a_video_with_audio(root, tmp_path, monkeypatch):
    monkeypatch.setattr(
        benchmark_cards, "choose_splits", lambda: [replace(BENCHMARKS[BENCHMARK_VERSION]["plain"], test=5)]
    )
    strip, video = make_cards(root, tmp_path, num=2, progress=False)
    assert (strip.name, video.name) == ("benchmark_plain.jpg", "benchmark_plain.mp4")
    image = np.asarray(Image.open(strip))
    # Two clips of three rows, and five columns.
    assert image.shape[0] > 2 * (2 * benchmark_cards.CELL) and image.shape[1] > 5 * benchmark_cards.CELL
    with av.open(str(video)) as container:
        assert container.streams.video and container.streams.audio
        assert container.duration / av.time_base == pytest.approx(5, abs=0.2)
