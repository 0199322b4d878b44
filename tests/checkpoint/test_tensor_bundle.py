"""TensorFlow's checkpoints: a bundle written by hand, damage, and YAMNet's names."""

import numpy as np
import pytest
import torch

from ska_vct.checkpoint.convert.yamnet import from_yamnet, is_yamnet
from ska_vct.checkpoint.files import CheckpointError, load_file, load_state_dict
from ska_vct.checkpoint.tensor_bundle import MAGIC
from ska_vct.modeling.audio.yamnet import NUM_CLASSES, YAMNetClassifier

_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def varint(value: int) -> bytes:
    result = b""
    while value > 127:
        result += bytes([value & 127 | 128])
        value >>= 7
    return result + bytes([value])


def entry(array: np.ndarray, offset: int) -> bytes:
    dims = b"".join(b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(s) for s in array.shape))
    message = b"\x08\x01\x12" + varint(len(dims)) + dims
    return message + b"\x20" + varint(offset) + b"\x28" + varint(array.nbytes) + b"\x35\0\0\0\0"


def block(pairs: list[tuple[bytes, bytes]]) -> bytes:
    result, before = b"", b""
    for key, value in pairs:
        shared = next((i for i, (a, b) in enumerate(zip(before, key, strict=False)) if a != b), 0)
        result += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
    return result + b"\0\0\0\0" + (1).to_bytes(4, "little")


def write_bundle(path, arrays: dict[str, np.ndarray], *, compression: int = 0):
    data, pairs = b"", [(b"", b"\x08\x01")]
    for name in sorted(arrays):
        pairs.append((name.encode(), entry(arrays[name], len(data))))
        data += arrays[name].astype("<f4").tobytes()
    path.with_suffix(".data-00000-of-00001").write_bytes(data)
    content = block(pairs)
    handle = varint(0) + varint(len(content))
    index = block([(b"zzz", handle)])
    file = content + bytes([compression]) + b"\0\0\0\0"
    start = len(file)
    file += index + b"\0\0\0\0\0"
    footer = varint(0) + varint(0) + varint(start) + varint(len(index))
    path.write_bytes(file + footer.ljust(40, b"\0") + MAGIC)
    return path


def test_a_bundle_is_read(tmp_path):
    arrays = {"a/kernel": np.arange(6, dtype=np.float32).reshape(1, 2, 3), "a/bias": np.ones(200, np.float32)}
    state = load_state_dict(write_bundle(tmp_path / "variables.index", arrays))
    assert state.keys() == arrays.keys()
    assert all(np.array_equal(state[name].numpy(), array) for name, array in arrays.items())


def test_damage_gives_one_sentence(tmp_path):
    path = write_bundle(tmp_path / "variables.index", {"a": np.ones(30, np.float32)})
    whole, data = path.read_bytes(), path.with_suffix(".data-00000-of-00001")
    rng = np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(whole)
        broken[rng.integers(len(broken) - 8)] = rng.integers(256)
        path.write_bytes(broken)
        try:
            load_file(path)
        except CheckpointError:
            pass
    path.write_bytes(whole)
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="do not fit"):
        load_file(path)
    data.unlink()
    with pytest.raises(CheckpointError, match="data-00000-of-00001"):
        load_file(path)
    with pytest.raises(CheckpointError, match="compressed"):
        load_file(write_bundle(path, {"a": np.ones(3, np.float32)}, compression=1))


def published(model: YAMNetClassifier) -> dict[str, torch.Tensor]:
    """The model's weights under TensorFlow's names."""
    state = {}
    for index, layer in enumerate(model.backbone.layers):
        kernel = "depthwise_kernel" if layer.conv.groups > 1 else "kernel"
        order = (2, 3, 0, 1) if layer.conv.groups > 1 else (2, 3, 1, 0)
        place = f"layer-1/_yamnet/layer_with_weights-{2 * index}/"
        state[f"{place}{kernel}{_SUFFIX}"] = layer.conv.weight.detach().permute(order)
        place = f"layer-1/_yamnet/layer_with_weights-{2 * index + 1}/"
        for theirs, value in (
            ("beta", layer.bn.bias),
            ("moving_mean", layer.bn.running_mean),
            ("moving_variance", layer.bn.running_var),
        ):
            state[f"{place}{theirs}{_SUFFIX}"] = value.detach()
    state[f"layer-1/_yamnet/layer_with_weights-54/kernel{_SUFFIX}"] = model.classifier.weight.detach().T
    state[f"layer-1/_yamnet/layer_with_weights-54/bias{_SUFFIX}"] = model.classifier.bias.detach()
    return state


def test_yamnet_comes_back_under_our_names():
    model, other = YAMNetClassifier().eval(), YAMNetClassifier().eval()
    with torch.no_grad():
        for layer in model.backbone.layers:
            layer.bn.bias.normal_()
            layer.bn.running_mean.normal_()
            layer.bn.running_var.uniform_(0.5, 2)
    state = published(model) | {"keras_api/metrics/0/count": torch.zeros(())}
    assert is_yamnet(set(state))
    converted = from_yamnet(state, prefix="backbone.", classifier="classifier.")
    assert list(converted.unused) == ["keras_api/metrics/0/count"]
    other.load_state_dict(converted.state, strict=False)
    log_mel = torch.randn(2, 1, 96, 64) - 2
    with torch.no_grad():
        scores = other(log_mel)
        assert scores.shape == (2, NUM_CLASSES) and torch.equal(scores, model(log_mel))


def test_padding_is_tensorflows():
    """An even side with stride 2 is padded behind its end only."""
    layer = YAMNetClassifier().backbone.layers[0].eval()
    with torch.no_grad():
        layer.conv.weight.zero_()
        layer.conv.weight[0, 0, 0, 0] = 1
        image = torch.arange(1.0, 17).view(1, 1, 4, 4)
        result = layer(image)[0, 0] * (1 + 1e-4) ** 0.5
    assert torch.allclose(result, image[0, 0, ::2, ::2], atol=1e-4)
