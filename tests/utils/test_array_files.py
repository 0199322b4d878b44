"""Text in NumPy's files."""

import io

import numpy as np
import pytest

from ska_vct.utils.array_files import ArrayFileError, parse_npy


def npy(array: np.ndarray) -> bytearray:
    file = io.BytesIO()
    np.save(file, array)
    return bytearray(file.getvalue())


@pytest.mark.parametrize("dtype", ["<U4", ">U4"])
def test_text_is_read_in_either_byte_order_unless_a_character_does_not_exist(dtype):
    words = np.array(["cat", "猫", "\U0010ffff"], dtype)
    data = npy(words)
    assert parse_npy(bytes(data), kinds="U").tolist() == words.tolist()
    # The most significant byte of the last character of "cat".
    data[len(data) - words.nbytes + 4 * 2 + (3 if dtype[0] == "<" else 0)] = 0x7F
    with pytest.raises(ArrayFileError, match="characters that do not exist"):
        parse_npy(bytes(data), kinds="U")
