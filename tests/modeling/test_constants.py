"""Constants are reused, but never those of a traced or fake run."""

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ska_vct.modeling.layers.position_encoding import sine_position_embedding


def test_constants_are_reused_and_fake_ones_forgotten():
    size = (7, 9, 8, torch.device("cpu"))
    with FakeTensorMode():
        assert isinstance(sine_position_embedding(*size), FakeTensor)
    real = sine_position_embedding(*size)
    assert not isinstance(real, FakeTensor) and real.shape == (1, 8, 7, 9)
    assert sine_position_embedding(*size) is real
    with FakeTensorMode():
        assert isinstance(sine_position_embedding(*size), FakeTensor)
