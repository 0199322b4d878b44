"""Multi-layer perceptron with ReLU between its layers."""

from collections.abc import Sequence

from torch import nn


class MLP(nn.Sequential):
    """Linear layers of widths ``dims`` with ReLU between them.

    Shape:
        (..., dims[0]) -> (..., dims[-1])
    """

    def __init__(self, dims: Sequence[int]):
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(zip(dims[:-1], dims[1:], strict=True)):
            if index:
                layers.append(nn.ReLU())
            layers.append(nn.Linear(before, after))
        super().__init__(*layers)
