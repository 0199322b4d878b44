"""Constants that are computed once."""

import torch

from ska_vct.modeling.layers.constants import cached_constant


def test_a_constant_made_in_inference_serves_a_training_later():
    make = cached_constant(maxsize=1)(lambda size: torch.arange(size, dtype=torch.float32))
    with torch.inference_mode():
        first = make(3)
    assert make(3) is first and not first.is_inference()
    weight = torch.ones(3, requires_grad=True)
    (weight * make(3)).sum().backward()
    assert weight.grad.tolist() == [0, 1, 2]
