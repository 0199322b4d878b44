"""A video in which nothing moves, with sensor noise and H.264, from the file to the motion map."""

import av
import cv2
import numpy as np
import pytest
import torch

from ska_vct.data.augmentation import ClipGeometry
from ska_vct.data.clip_mapper import ClipMapper, prepare_flow
from ska_vct.data.flow.extract.clip import FlowRequest, compute_clip, read_clip
from ska_vct.data.flow.methods.registry import build_flow_method
from ska_vct.engine.setup import load_cfg
from ska_vct.modeling.motion.ska import build_ska

SECONDS, FPS, SIDE = 2, 25, 224


def write_video(path, *, moves: bool) -> None:
    rng = np.random.default_rng(0)
    scene = cv2.GaussianBlur(rng.uniform(0, 1, (SIDE, SIDE, 3)), (0, 0), 3)
    scene = 40 + 170 * (scene - scene.min()) / (scene.max() - scene.min())
    patch = scene[:60, :60].transpose(1, 0, 2).copy()
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        for index in range(SECONDS * FPS + 5):
            image = scene.copy()
            if moves:
                left = 80 + round(20 * np.sin(2 * np.pi * 1.5 * index / FPS))
                image[80:140, left : left + 60] = patch
            noisy = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noisy, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("moves", [False, True])
def test_the_map_is_dark_where_nothing_moves(tmp_path, moves):
    path = tmp_path / "a.mp4"
    write_video(path, moves=moves)
    record = {
        "clip_id": "test/a", "subset": "ms3", "image_paths": ["none.png"] * SECONDS, "video_path": str(path),
        "flow_path": str(tmp_path / "a.npz"),
    }  # fmt: skip
    request = FlowRequest(source="video", size=24)
    stored = compute_clip(record, request, build_flow_method("dis"), read_clip(record, request)[0])
    audio = torch.randn(SECONDS, 1, 100, 64, generator=torch.Generator().manual_seed(0))
    peaks = {}
    for norm, floor in (("diagonal", 0.005), ("frame", 0.0)):
        cfg = load_cfg("configs/synth/quickstart.yaml", ["MODEL.SKA.NAME", "TemporalSKA", "INPUT.FLOW.NORM", norm])
        cfg.MODEL.SKA.SPEED_FLOOR = floor
        options = ClipMapper.from_config(cfg, is_train=False)["flow"]
        geometry = ClipGeometry.resize((SIDE, SIDE))
        flow = torch.from_numpy(prepare_flow(stored, options, rows=np.arange(SECONDS), geometry=geometry))
        torch.manual_seed(0)
        with torch.no_grad():
            prompt = build_ska(cfg).eval()(torch.zeros(SECONDS, cfg.MODEL.HIDDEN_DIM, 6, 4), audio, flow)
        peaks[norm] = prompt.motion_map.amax((1, 2, 3)).max().item()
    if moves:
        assert peaks["diagonal"] > 0.5
    else:
        assert peaks["diagonal"] < 0.1
        # What the floor is for: a frame's own maximum turns the same noise into a map of full range.
        assert peaks["frame"] > 0.5
