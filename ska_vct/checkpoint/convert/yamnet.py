"""Names of YAMNet's weights in TensorFlow's checkpoints -> ours."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .names import Converted

# Of a SavedModel's variables, whatever the model that wraps the network.
_ENTRY = re.compile(r"(?:.*/)?layer_with_weights-(\d+)/(\w+)/\.ATTRIBUTES/VARIABLE_VALUE$")
_NUM_LAYERS = 27
_CLASSIFIER = 2 * _NUM_LAYERS
_NORM = {"beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_WHY = {
    True: "the classifier of AudioSet's classes is never run",
    False: "it belongs to the training of the network around YAMNet",
}


def is_yamnet(names: set[str]) -> bool:
    """Whether ``names`` are those of a TensorFlow checkpoint of YAMNet."""
    found = {(int(match[1]), match[2]) for name in names if (match := _ENTRY.match(name))}
    return {(0, "kernel"), (2, "depthwise_kernel"), (52, "kernel"), (_CLASSIFIER, "kernel")} <= found


def from_yamnet(state: Mapping[str, Tensor], *, prefix: str, classifier: str = "") -> Converted:
    """Convert the variables of YAMNet.

    Args:
        state: name -> tensor, as the checkpoint has them.
        prefix: of our names of the convolutions.
        classifier: prefix of our names of the classifier; without one it is left out.
    """
    converted, unused = {}, {}
    for name, value in state.items():
        match = _ENTRY.match(name)
        number, kind = (int(match[1]), match[2]) if match else (-1, "")
        if number == _CLASSIFIER and classifier:
            ours, value = (f"{classifier}weight", value.T) if kind == "kernel" else (f"{classifier}bias", value)
        elif 0 <= number < _CLASSIFIER and number % 2:
            ours = f"{prefix}layers.{number // 2}.bn.{_NORM.get(kind, kind)}"
        elif 0 <= number < _CLASSIFIER:
            # Kernels are (rows, columns, in, out), depthwise ones (rows, columns, channels, 1).
            order = (2, 3, 0, 1) if kind == "depthwise_kernel" else (3, 2, 0, 1)
            ours, value = f"{prefix}layers.{number // 2}.conv.weight", value.permute(order)
        else:
            unused[name] = _WHY[number == _CLASSIFIER]
            continue
        converted[ours] = value.contiguous()
        if kind == "beta":  # these norms have no scale
            converted[ours.replace(".bias", ".weight")] = torch.ones_like(value)
    return Converted(state=converted, unused=unused)
