"""Encoded audio is decoded again by an independent reader: right length, rate and pitch."""

from io import BytesIO

import av
import numpy as np
import pytest

from ska_vct.visualization.audio import encode_audio


@pytest.mark.parametrize(("rate", "channels", "kept"), [(16000, 1, 16000), (44100, 5, 44100), (11000, 2, 48000)])
def test_encoded_audio_has_the_pitch_and_length_of_the_samples(rate, channels, kept):
    wave = 0.4 * np.sin(2 * np.pi * 500 * np.arange(3 * rate) / rate)
    data = encode_audio(np.repeat(wave[:, None], channels, 1), rate, seconds=2)
    assert len(data) < 40_000
    with av.open(BytesIO(data)) as container:
        (stream,) = container.streams
        samples = np.concatenate([frame.to_ndarray() for frame in container.decode(stream)], axis=1)
        assert stream.rate == kept and len(samples) == (channels if channels < 3 else 1)
    assert samples.shape[1] / kept == pytest.approx(2, abs=0.15)
    spectrum = np.abs(np.fft.rfft(samples[0, kept // 2 : 3 * kept // 2]))
    assert spectrum.argmax() == pytest.approx(500, abs=1)


def test_audio_that_cannot_be_played_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        encode_audio(np.array([0.0, np.nan]), 16000, seconds=1)
