"""Which clips get audio that nothing in view makes, how often, and what becomes of their masks."""

from collections import Counter

import numpy as np
import pytest

from ska_vct.data.audio import negatives
from ska_vct.data.audio.files import load_audio
from ska_vct.data.audio.negatives import NegativeAudio
from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.engine.setup import load_cfg
from ska_vct.synth import SynthSettings, generate

CAT, DOG = ({"clip_id": name, "sem_classes": (name,)} for name in ("cat", "dog"))
UNKNOWN = {"clip_id": "x", "sem_classes": ()}


@pytest.fixture
def no_files(monkeypatch):
    monkeypatch.setattr(negatives, "load_audio", lambda record, seconds, source: record["clip_id"])


def kinds(record, donors, draws=400, **options):
    rng = np.random.default_rng(0)
    maker = NegativeAudio(**{"probability": 1.0, "kinds": negatives.NEGATIVE_KINDS, "donors": donors} | options)
    drawn = [maker.draw(record, 1, "auto", rng=rng) for _ in range(draws)]
    return Counter(kind for kind, _ in filter(None, drawn)), [audio for _, audio in filter(None, drawn)]


def test_another_clip_is_heard_only_where_the_labels_allow_it(no_files):
    counts, audio = kinds(CAT, [CAT, DOG])
    assert all(count > 90 for count in counts.values()) and set(counts) == {"silence", "noise", "other"}
    assert "dog" in audio and "cat" not in audio
    for record, donors in ((UNKNOWN, [CAT, DOG]), (CAT, [UNKNOWN, CAT]), (CAT, [])):
        counts, _ = kinds(record, donors)
        assert set(counts) == {"silence", "noise"} and sum(counts.values()) == 400
    assert not kinds(UNKNOWN, [CAT], kinds=["other"])[0]


def test_as_often_as_asked_for():
    rng = np.random.default_rng(0)
    maker = NegativeAudio(probability=0.15, kinds=["silence"])
    share = np.mean([maker.draw(UNKNOWN, 1, "auto", rng=rng) is not None for _ in range(4000)])
    assert share == pytest.approx(0.15, abs=0.02)
    assert NegativeAudio(probability=0.0, kinds=["silence"]).draw(UNKNOWN, 1, "auto", rng=rng) is None


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="INPUT.AUDIO.NEGATIVES is 1.5"):
        NegativeAudio(probability=1.5, kinds=["noise"])
    with pytest.raises(ValueError, match="INPUT.AUDIO.NEGATIVE_KINDS"):
        NegativeAudio(probability=0.1, kinds=["music"])


def test_a_negative_clip_has_empty_masks_and_keeps_its_padding(tmp_path):
    generate(tmp_path, SynthSettings(subset="s4", train=2, val=0, test=0, size=48), jobs=1, progress=False)
    cfg = load_cfg("configs/synth/s4.yaml", ["DATASETS.ROOT", str(tmp_path), "INPUT.SIZE", "(64, 64)"])
    records = load_records("s4", "train", tmp_path)
    own = ClipMapper(cfg, is_train=True, donors=records)(records[0])
    assert "condition" not in own and (own["masks"] == 1).any()
    cfg.INPUT.AUDIO.NEGATIVES, cfg.INPUT.AUDIO.NEGATIVE_KINDS = 1.0, ["silence"]
    clip = ClipMapper(cfg, is_train=True, donors=records)(records[0])
    assert clip["condition"] == "silence" and clip["category"] == -1
    assert set(clip["masks"].unique().tolist()) <= {0, 255}
    # Gain leaves silence alone.
    np.testing.assert_allclose(clip["audio_second"].numpy(), np.log(0.01), rtol=1e-5)
    np.testing.assert_allclose(clip["log_mel"].numpy(), np.log(0.01), rtol=1e-5)
    test = ClipMapper(cfg, is_train=False)(records[0])
    want = load_audio(records[0], 5)
    np.testing.assert_array_equal(test["audio_second"].numpy(), want.seconds)
