"""Files are told apart by their bytes, read as data, and refused in one sentence."""

import argparse
import io
import os
import pickle

import numpy as np
import pytest
import torch

from ska_vct.checkpoint.checkpointer import CheckpointError, load_file, load_state_dict
from ska_vct.checkpoint.convert.formats import FORMATS, identify
from ska_vct.checkpoint.writing import convert_file, save_weights

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1, 2])}


class Harmful:
    def __reduce__(self):
        return os.system, ("true",)


def saved(obj, **kwargs) -> bytes:
    file = io.BytesIO()
    torch.save(obj, file, **kwargs)
    return file.getvalue()


def arrays() -> dict:
    return {key: value.numpy() for key, value in STATE.items()}


def safetensors_bytes(tmp_path) -> bytes:
    save_weights(tmp_path / "x.safetensors", STATE, {"note": "hello"})
    return (tmp_path / "x.safetensors").read_bytes()


GOOD = {
    "zip": lambda _: saved({"model": STATE, "args": argparse.Namespace(lr=1)}),
    "old torch": lambda _: saved(STATE, _use_new_zipfile_serialization=False),
    "pickle of arrays": lambda _: pickle.dumps(
        {"model": arrays(), "__author__": "x", "matching_heuristics": True}
    ),
    "pickle of tensors": lambda _: pickle.dumps({"state_dict": STATE}),
    "pickle of Python 2": lambda _: pickle.dumps({"model": arrays()}, protocol=2),
    "safetensors": safetensors_bytes,
}


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("name", ["m.pth", "m.bin"])  # the name says nothing
def test_kinds_are_told_apart_by_their_bytes(tmp_path, kind, name):
    (tmp_path / name).write_bytes(GOOD[kind](tmp_path))
    found = load_state_dict(tmp_path / name)
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[key], value) for key, value in STATE.items())


BAD = {
    "web page": (lambda _: b"<!DOCTYPE html><html>", "web page"),
    "pointer": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "git lfs pull"),
    "compressed": (lambda _: b"\x1f\x8b\x08\x00", "unpack"),
    "empty": (lambda _: b"", "is empty"),
    "noise": (lambda _: bytes(range(256)) * 4, "damaged"),
    "cut zip": (lambda p: GOOD["zip"](p)[:-200], "damaged"),
    "cut pickle": (lambda p: GOOD["pickle of arrays"](p)[:-20], "damaged"),
    "cut safetensors": (lambda p: GOOD["safetensors"](p)[:-4], "damaged"),
    "code in a zip": (lambda _: saved({"model": {"a": Harmful()}}), "system"),
    "code in an old file": (lambda _: saved(Harmful(), _use_new_zipfile_serialization=False), "system"),
    "code in a pickle": (lambda _: pickle.dumps({"model": arrays(), "x": Harmful()}), "system"),
    "a whole module": (lambda _: saved(torch.nn.Linear(2, 2)), "Linear"),
    "objects in an array": (lambda _: pickle.dumps({"a": np.array([{}], dtype=object)}), "an array of type 'O8'"),
    "numbers": (lambda _: saved({"model": {"a": 3.0}}), "'a' is a float"),
    "nothing": (lambda _: saved({}), "no weights"),
    "a list": (lambda _: saved([1]), "holds a list"),
    "Caffe2": (lambda _: pickle.dumps({"blobs": {"conv1_w": np.ones(3)}}), "Caffe2"),
}


@pytest.mark.parametrize("kind", BAD)
def test_broken_files_give_one_sentence(tmp_path, kind):
    make, word = BAD[kind]
    path = tmp_path / "m.pth"
    path.write_bytes(make(tmp_path))
    with pytest.raises(CheckpointError) as info:
        load_state_dict(path)
    message = str(info.value)
    assert str(path) in message and word in message and "\n" not in message, message


def test_text_beside_the_weights_comes_back(tmp_path):
    for name in ("m.pth", "m.safetensors"):
        save_weights(tmp_path / name, STATE, {"note": "hello"})
        assert load_file(tmp_path / name)["__metadata__"] == {"note": "hello"}
    with pytest.raises(CheckpointError, match=".bin"):
        save_weights(tmp_path / "m.bin", STATE, {})


def test_unknown_weights_are_refused_with_the_kinds_there_are(tmp_path):
    with pytest.raises(CheckpointError) as info:
        identify(STATE, path="m.pth")
    assert all(kind.title in str(info.value) for kind in FORMATS)
    with pytest.raises(CheckpointError, match="PCA"):
        identify({"pca_means": torch.ones(1)}, path="m.pth")


def test_an_entry_too_many_is_named():
    state = {"features.0.weight": torch.ones(1), "features.13.weight": torch.ones(1), "stray": torch.ones(1)}
    with pytest.raises(CheckpointError, match="VGGish.*stray"):
        identify(state, path="m.pth")


def test_converting_to_vct_needs_vct_names_and_a_file_vct_reads(tmp_path):
    save_weights(tmp_path / "m.pth", {"decoder.layers.0.cross_attention.stray": torch.ones(1)}, {})
    with pytest.raises(CheckpointError, match="stray"):
        convert_file(tmp_path / "m.pth", tmp_path / "v.pth", to="vct")
    with pytest.raises(CheckpointError, match="'.pth'"):
        convert_file(tmp_path / "m.pth", tmp_path / "v.safetensors", to="vct")
    assert not (tmp_path / "v.pth").exists()


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.ones(1).expand(1 << 40), "too few bytes"),
        (torch.empty(1 << 40, device="meta"), "without values"),
        (torch.ones(2, 2).to_sparse(), "sparse"),
    ],
)
@pytest.mark.parametrize("place", ["weights", "rest"])
def test_shapes_that_the_file_does_not_justify_are_refused(tmp_path, tensor, words, place):
    """A file of a kilobyte must not make a terabyte."""
    content = {"model": {"a": torch.ones(2)}, "trainer": {"b": [1]}}
    (content["model"] if place == "weights" else content["trainer"])["c"] = tensor
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(CheckpointError, match=words):
        load_file(tmp_path / "x.pth")


def test_views_of_fewer_numbers_are_read(tmp_path):
    torch.save({"a": torch.arange(4.0).expand(3, 4)}, tmp_path / "x.pth")
    assert load_state_dict(tmp_path / "x.pth")["a"].shape == (3, 4)
