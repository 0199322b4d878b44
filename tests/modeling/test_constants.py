"""Constants are reused, in training too, but never those of a traced or fake run."""

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from ska_vct.modeling.layers.constants import cached_constant
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


def test_a_constant_made_in_inference_serves_a_training_later():
    make = cached_constant(maxsize=1)(lambda size: torch.arange(size, dtype=torch.float32))
    with torch.inference_mode():
        first = make(3)
    assert make(3) is first and not first.is_inference()
    weight = torch.ones(3, requires_grad=True)
    (weight * make(3)).sum().backward()
    assert weight.grad.tolist() == [0, 1, 2]
