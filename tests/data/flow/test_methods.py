"""Farneback, RAFT with random weights, and the truth: directions, units, sizes, and weights that fail."""

import importlib.util
from pathlib import Path
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import optical_flow

from ska_vct.data.catalog import load_records
from ska_vct.data.flow.extract.clip import FlowRequest, compute_clip, read_clip
from ska_vct.data.flow.methods import raft as flow_raft
from ska_vct.data.flow.methods.base import ImagePairs, pair_flow
from ska_vct.data.flow.methods.raft import RaftFlow
from ska_vct.data.flow.methods.registry import FarnebackFlow, build_flow_method
from ska_vct.data.flow.store import FlowError
from ska_vct.experiments.flow_quality.measure import NoFlow, markdown_table, score_method
from ska_vct.synth import SynthSettings, generate
from ska_vct.synth.true_flow import TrueFlow

ROOT = Path(__file__).resolve().parents[3]


def texture(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(1).integers(0, 255, (height // 4 + 1, width // 4 + 1), dtype=np.uint8)
    fine = cv2.resize(coarse, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)[:height, :width]
    return np.repeat(fine[:, :, None], 3, axis=2)


def pairs_of(images: np.ndarray) -> ImagePairs:
    """Each image with the next, 0.1 s apart."""
    first = np.arange(len(images) - 1)
    return ImagePairs(
        images=images, times=0.1 * np.arange(len(images)), first=first, second=first + 1,
        shape=(1, len(first)), size=images.shape[1:3], fps=10.0, source="video",
    )  # fmt: skip


def untrained(name: str = "raft_small", batch_size: int = 3) -> RaftFlow:
    torch.manual_seed(0)
    model = flow_raft.RAFT_MODELS[name][0](weights=None)
    return RaftFlow(model=model, name=name, weights="none", device="cpu", batch_size=batch_size)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    root = tmp_path_factory.mktemp("release")
    scenes = {"camera": 1.0, "mover": 1.0}
    settings = SynthSettings(
        subset="ms3", train=0, val=0, test=3, size=64, series=5, scenes=scenes, camera=2.0, seed=4
    )
    generate(root, settings, jobs=1, progress=False)
    return root


# --------------------------------------------------------------------------------------------------- farneback


def test_farneback_recovers_a_known_translation():
    image = texture(80, 100)
    flow = FarnebackFlow().between(image[None, 8:72, 8:88], image[None, 7:71, 6:86])
    assert flow.shape == (1, 2, 64, 80) and flow.dtype == np.float32
    np.testing.assert_allclose(flow[0, 0, 12:-12, 12:-12], 2.0, atol=0.2)
    np.testing.assert_allclose(flow[0, 1, 12:-12, 12:-12], 1.0, atol=0.2)


# -------------------------------------------------------------------------------------------------------- RAFT


def test_raft_sees_pictures_as_torchvision_prepares_them():
    image = texture(136, 180)
    first, second = image[None, :128, 4:164], image[None, 3:131, 0:160]
    flow = untrained().between(first, second)
    prepare = optical_flow.Raft_Small_Weights.DEFAULT.transforms()
    tensors = prepare(*(torch.from_numpy(p.transpose(0, 3, 1, 2).copy()) for p in (first, second)))
    with torch.inference_mode():
        expected = untrained().model(*tensors)[-1].numpy()
    assert flow.shape == (1, 2, 128, 160) and np.abs(expected).max() > 0.01
    np.testing.assert_allclose(flow, expected, atol=1e-4 * np.abs(expected).max())


def test_raft_takes_small_and_odd_pictures_in_their_own_pixels():
    method = untrained()
    grown = []
    method.model.register_forward_pre_hook(lambda _, pair: grown.append(pair[0].shape))
    method.model.register_forward_hook(lambda _, pair, flows: [torch.ones_like(flows[-1]) * 6.0])
    flow = method.between(*texture(65, 131)[None, :64, :101].repeat(2, axis=0)[:, None])
    # 64 x 101 grows to 128 x 202, padded to 128 x 208; 6 pixels there are 3 of the image's.
    assert grown == [(1, 3, 128, 208)] and flow.shape == (1, 2, 64, 101)
    np.testing.assert_allclose(flow, 3.0, atol=1e-5)


def test_rafts_batches_hold_one_clip_and_do_not_change_it():
    images = np.stack([texture(64, 80)[:, k : k + 64] for k in range(5)])
    fields = [pair_flow(pairs_of(images), untrained(batch_size=size), (8, 8)) for size in (1, 3)]
    assert fields[0].shape == (1, 4, 2, 8, 8) and np.abs(fields[0]).max() > 0
    np.testing.assert_allclose(fields[0], fields[1], atol=1e-4 * np.abs(fields[0]).max())
    again = pair_flow(pairs_of(images), untrained(batch_size=3), (8, 8))
    np.testing.assert_array_equal(again, fields[1])


def test_raft_weights_come_from_a_file_and_are_named_by_content(tmp_path):
    path = tmp_path / "mine.pth"
    torch.save(untrained().model.state_dict(), path)
    method = build_flow_method("raft_small", weights=path)
    assert method.weights.startswith("mine.pth sha256:") and str(tmp_path) not in method.weights
    pair = texture(64, 80)[None, :, :64], texture(64, 80)[None, :, 4:68]
    np.testing.assert_array_equal(method.between(*pair), untrained().between(*pair))


def test_unusable_raft_weights_are_one_sentence(tmp_path, monkeypatch):
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    (tmp_path / "broken.pth").write_bytes(b"nothing")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, message in (
        ("other.pth", "do not fit raft_large"), ("broken.pth", "cannot be read"), ("gone.pth", "cannot be read"),
        ("list.pth", "hold a list"),
    ):  # fmt: skip
        with pytest.raises(FlowError, match=rf"{name.replace('.', '[.]')} {message}") as caught:
            build_flow_method("raft_large", weights=tmp_path / name)
        assert "\n" not in str(caught.value)

    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(optical_flow.Raft_Large_Weights, "get_state_dict", refuse)
    with pytest.raises(FlowError, match=r"no network.*--method dis.*raft_large_.*\.pth.*--weights"):
        build_flow_method("raft_large")
    with pytest.raises(FlowError, match="'dis' has no weights"):
        build_flow_method("dis", weights="x.pth")
    with pytest.raises(FlowError, match="raft_large, raft_small, dis, farneback, truth"):
        build_flow_method("raft")
    with pytest.raises(FlowError, match="batch size is 0"):
        untrained(batch_size=0)


# ------------------------------------------------------------------------------------------------------- truth


def test_true_flow_carries_each_picture_into_the_next(release):
    """Independent of how the truth is computed: the video's own images, looked up where it points, agree."""
    for record in load_records("ms3", "test", release):
        pairs, _ = read_clip(record, FlowRequest(source="video", series=10))
        truth = TrueFlow(root=release, subset="ms3")
        fields = truth.fields(pairs, np.arange(len(pairs.first)))
        x, y = np.meshgrid(np.arange(64, dtype=np.float32), np.arange(64, dtype=np.float32))
        warped_errors, still_errors = [], []
        for field, first, second in zip(fields, pairs.first, pairs.second, strict=True):
            now, after = (pairs.images[k].astype(np.float32) for k in (first, second))
            # The images' brightness flickers as a whole.
            after *= now.mean() / after.mean()
            moving = np.hypot(*field) > 1.0
            if moving.sum() > 50:
                warped = cv2.remap(
                    after, x + field[0], y + field[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
                )
                warped_errors.append(np.abs(warped - now)[moving].mean())
                still_errors.append(np.abs(after - now)[moving].mean())
        # What is left is video compression, interpolation and what gets covered.
        assert len(warped_errors) >= 3 and np.mean(warped_errors) < 0.6 * np.mean(still_errors)


def test_truth_has_units_and_knows_its_clips(release, tmp_path):
    record = load_records("ms3", "test", release)[0]
    truth = build_flow_method("truth", root=release, subset="ms3")
    flow = {}
    for long_side in (0, 32):
        request = FlowRequest(method="truth", source="video", long_side=long_side, size=8)
        pairs, _ = read_clip(record, request)
        flow[long_side] = compute_clip(record, request, truth, pairs).flow.astype(np.float32)
    # Pixels of the original per second, whatever the images were shrunk to.
    np.testing.assert_allclose(flow[0], flow[32], atol=0.02 * np.abs(flow[0]).max())
    assert np.abs(flow[0]).max() > 5
    with pytest.raises(FlowError, match="'test/plain_test_00000' does not belong to the synthetic release"):
        truth.renderer("test/plain_test_00000")
    with pytest.raises(FlowError, match="synthetic clips only"):
        TrueFlow(root=tmp_path, subset="ms3")


def test_quality_of_truth_is_perfect_and_of_no_motion_is_the_motion(release):
    records = load_records("ms3", "test", release)
    truth = TrueFlow(root=release, subset="ms3")
    request = FlowRequest(source="video", series=10, size=16)
    scores = {m.name: score_method(records, m, truth, request=request, progress=False) for m in (truth, NoFlow())}
    assert scores["truth"].errors == [0.0] * 3 and scores["truth"].moving == [0.0] * 3
    for index, record in enumerate(records):
        pairs, _ = read_clip(record, request)
        length = np.hypot(*truth.fields(pairs, np.arange(50)).swapaxes(0, 1))
        assert scores["no motion"].errors[index] == pytest.approx(length.mean(), rel=1e-5)
        assert scores["no motion"].moving[index] == pytest.approx(length[length >= 0.25].mean(), rel=1e-5)
    # Only some clips have a moving camera, and its compensation puts all true flow onto objects.
    assert len(scores["truth"].shares) == sum("camera" in record["clip_id"] for record in records) in (1, 2)
    assert all(before < 0.5 and after > 0.9 for before, after in scores["truth"].shares)
    assert set(scores["truth"].sizes) == {(10, 16), (10, 8), (1, 16), (1, 8)}
    table = markdown_table(list(scores.values()), not_measured=["raft_large"]).splitlines()
    assert cells(table[2])[:4] == ["truth", "video", "0.000", "0.000"]
    assert cells(table[4])[:3] == ["raft_large", "", "not measured"]
    assert len({line.count("|") for line in table}) == 1


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_quality_script_prints_tables_and_draws(release, tmp_path, capsys, monkeypatch):
    spec = importlib.util.spec_from_file_location("flow_quality_script", ROOT / "datasets" / "flow_quality.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)

    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(optical_flow.Raft_Small_Weights, "get_state_dict", refuse)
    image = tmp_path / "methods.png"
    options = ["--methods", "dis", "raft_small", "--series", "2", "--limit", "2", "--picture", str(image)]
    script.main(["--root", str(release), *options])
    printed = capsys.readouterr().out
    assert "2 clips." in printed and "no network" in printed
    rows = [tuple(cells(line)[:2]) for line in printed.splitlines() if line.startswith("|")]
    assert {("dis", "video"), ("dis", "frames"), ("raft_small", "")} <= set(rows)
    height, width = cv2.imread(str(image)).shape[:2]
    # Two columns; rows for the image, the truth and DIS.
    assert width > 2 * 168 and 3 * 168 < height < 4 * 168
    with pytest.raises(SystemExit, match="error: True flow is known for synthetic clips only"):
        script.main(["--root", str(tmp_path)])
