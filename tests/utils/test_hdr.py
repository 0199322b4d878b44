"""HDR to SDR: values that the standards name, hues, and saturation."""

import numpy as np
import pytest

from ska_vct.utils.media.hdr import HLG, PQ, to_sdr


def shown(signal, transfer) -> np.ndarray:
    """SDR values of one signal, three shares of the range."""
    value = np.rint(65535 * np.broadcast_to(np.float64(signal), 3)).astype(np.uint16)
    return to_sdr(value[None, None], transfer)[0, 0].astype(int)


def test_signals_of_the_same_light_look_the_same():
    """ITU-R BT.2408, table 1: reference white is 58 % of PQ and 75 % of HLG, 18 % grey 38 % and 38 %."""
    np.testing.assert_allclose(shown(0.58, PQ), shown(0.75, HLG), atol=2)
    np.testing.assert_allclose(shown(0.38, PQ), shown(0.38, HLG), atol=5)
    assert 200 < shown(0.58, PQ)[0] < 230, "white lies below what highlights need"
    # 26 of 203 cd/m2 is below the knee: the signal of a screen with gamma 2.4.
    np.testing.assert_allclose(shown(0.38, PQ), 255 * (26 / 203) ** (1 / 2.4), atol=3)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_black_white_and_what_lies_between(transfer):
    assert shown(0, transfer).tolist() == [0, 0, 0] and shown(1, transfer).tolist() == [255, 255, 255]
    levels = [shown(k / 50, transfer)[0] for k in range(51)]
    assert levels == sorted(levels) and len(set(levels)) > 35
    red = shown((0.5, 0.4, 0.4), transfer)
    assert red[0] > red[1] and red[0] > red[2]
    assert np.ptp(red) > np.ptp(shown((0.45, 0.4, 0.4), transfer)) > 0
