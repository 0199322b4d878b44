import copy
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ska_vct.config import get_cfg
from ska_vct.data.catalog import load_records
from ska_vct.data.clip_mapper import ClipMapper
from ska_vct.data.flow.store import FlowRecord, write_flow
from ska_vct.data.validation.clips import Needs, check_clip
from ska_vct.data.validation.findings import ERROR
from ska_vct.structures.clip import ClipError, validate_clip

SOURCE = (32, 40)


@pytest.fixture
def cfg():
    cfg = get_cfg()
    cfg.INPUT.SIZE = (48, 48)
    cfg.INPUT.EVAL_SIZE = (32, 40)
    cfg.INPUT.FLOW.SIZE = (8, 8)
    cfg.MODEL.SKA.ENABLED = False
    return cfg


def store_flow(record, flow: np.ndarray) -> None:
    meta = {
        "method": "dis", "weights": "", "fps": 1.0, "time_step": 1.0, "height": SOURCE[0], "width": SOURCE[1],
        "clip_id": record["clip_id"], "source": "frames",
    }  # fmt: skip
    write_flow(record["flow_path"], FlowRecord(flow=flow.astype(np.float16), meta=meta))


def test_testing_clip(release, cfg):
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "test", release.root)
    before = copy.deepcopy(record)
    clip = ClipMapper(cfg, is_train=False)(record)
    validate_clip(clip, needs=("masks", "frame_index"))
    assert record == before
    assert clip["images"].shape == (5, 3, 48, 48) and clip["masks"].shape == (5, 32, 40)
    assert (clip["height"], clip["width"]) == (32, 40) and clip["clip_id"] == "test/test_a"
    assert clip["subset"] == "ms3" and clip["category"] == -1 and "flow" not in clip and "pre_masks" not in clip
    assert (
        clip["frame_valid"].all() and clip["mask_valid"].all() and clip["frame_index"].tolist() == [0, 1, 2, 3, 4]
    )
    # The fixture moves the square by one pixel per frame; the label map keeps its own 32 x 40.
    for k in range(5):
        assert np.array_equal(clip["masks"][k].numpy(), release.square(SOURCE, k + 1))
    # The images' squares are bright where the masks are: images are RGB in 0..255, not squashed otherwise.
    small = torch.nn.functional.interpolate(clip["images"].float().mean(1, keepdim=True), SOURCE, mode="area")[
        :, 0
    ]
    assert ((small > 130) == (clip["masks"] == 1)).float().mean() > 0.97
    from_file = np.asarray(Image.open(record["image_paths"][2]).resize((48, 48), Image.Resampling.BILINEAR))
    assert np.array_equal(clip["images"][2].permute(1, 2, 0).numpy(), from_file)


def test_training_takes_annotated_frames_and_their_sound_and_flow(release, cfg):
    release.write_s4(names=("x",))
    (record,) = load_records("s4", "train", release.root)
    cfg.MODEL.SKA.ENABLED = True
    cfg.INPUT.FLOW.NORM = "diagonal"
    flow = np.zeros((5, 1, 2, 8, 10))
    flow[0, 0, 1], flow[3] = 3.0, 50.0
    store_flow(record, flow)
    clip = ClipMapper(cfg, is_train=True)(record)
    validate_clip(clip, needs=("masks", "flow"))
    assert clip["images"].shape == (1, 3, 48, 48) and clip["masks"].shape == (1, 48, 48)
    assert clip["frame_index"].tolist() == [0] and clip["mask_valid"].all() and clip["category"] == 16
    assert (
        clip["flow"].shape == (1, 1, 2, 8, 8)
        and clip["flow"][0, 0, 1].max() > 0
        and not clip["flow"][0, 0, 0].any()
    )
    cfg.INPUT.ONLY_ANNOTATED = False
    whole = ClipMapper(cfg, is_train=True)(record)
    assert whole["images"].shape[0] == 5 and whole["mask_valid"].tolist() == [True] + [False] * 4
    assert (whole["masks"][1:] == 255).all() and not (whole["masks"][0] == 255).all()
    assert torch.equal(whole["log_mel"][:1], clip["log_mel"]) and whole["flow"][3].abs().max() > 0
    # Testing needs all frames, annotated or not.
    assert ClipMapper(cfg, is_train=False)(record)["images"].shape[0] == 5


def test_images_masks_and_flow_stay_aligned_in_training(release, cfg):
    """The bright square, the mask and a flow that is set in the square only must end up in the same place."""
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "train", release.root)
    cfg.MODEL.SKA.ENABLED = True
    cfg.INPUT.COLOR_AUG_SSD = False
    cfg.INPUT.FLOW.SIZE = (48, 48)
    inside = np.stack([release.square(SOURCE, k + 1) for k in range(5)])
    flow = np.zeros((5, 2, 2, *SOURCE))
    flow[:, :, 0] = 4.0 * inside[:, None]
    store_flow(record, flow)
    cfg.INPUT.FLOW.SERIES = 2
    mapper = ClipMapper(cfg, is_train=True)
    signs, padded = set(), 0
    for seed in range(12):
        clip = mapper(record, rng=np.random.default_rng(seed))
        real = clip["masks"] != 255
        mask = clip["masks"] == 1
        bright = clip["images"].float().mean(1) > 125
        moving = clip["flow"][:, 0, 0].abs() > 0.5
        # Borders of a bilinear image and of a nearest mask differ by up to a pixel.
        assert (bright == mask)[real].float().mean() > 0.93 and (moving == mask)[real].float().mean() > 0.93
        assert (clip["images"].permute(0, 2, 3, 1)[~real] == 128).all() and not clip["flow"][:, :, 0][
            (~real)[:, None].expand(-1, 2, -1, -1)
        ].any()
        padded += int((~real).any())
        if mask.any():
            signs.add(float(torch.sign(clip["flow"][:, 0, 0][mask].sum())))
    assert signs == {-1.0, 1.0} and 0 < padded < 12


def test_the_seed_decides(release, cfg):
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "train", release.root)
    cfg.INPUT.AUDIO.GAIN_DB = 6.0
    mapper = ClipMapper(cfg, is_train=True)

    def run(seed):
        return mapper(record, rng=np.random.default_rng(seed))

    first = run(1)
    # The global generators do not matter.
    random.seed(9)
    np.random.seed(9)
    again, other = run(1), run(2)
    for field in ("images", "masks", "log_mel"):
        assert torch.equal(first[field], again[field]) and not torch.equal(first[field], other[field])
    test = ClipMapper(cfg, is_train=False)
    assert torch.equal(test(record)["log_mel"], test(record)["log_mel"])


@pytest.mark.parametrize(("norm", "expected"), [("frame", 1.0), ("clip", 0.5), ("diagonal", None)])
def test_flow_units(release, cfg, norm, expected):
    release.write_s4(names=("x",))
    (record,) = load_records("s4", "train", release.root)
    flow = np.zeros((5, 1, 2, 8, 10))
    flow[0, 0, 0], flow[4, 0, 0] = 2.0, 4.0
    store_flow(record, flow)
    cfg.MODEL.SKA.ENABLED = True
    cfg.INPUT.FLOW.NORM = norm
    cfg.INPUT.SCALES = [1.0]
    clip = ClipMapper(cfg, is_train=True)(record)
    if norm == "diagonal":
        # 32 px become 48, so 2 px become 3; a quarter of the diagonal of 48 x 48 is 1.
        expected = 3 / (0.25 * 48 * 2**0.5)
    # The clip's largest motion counts although its frame is not used.
    assert clip["flow"].shape[0] == 1 and clip["flow"].abs().max().item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("norm", "later"), [("frame", 1.0), ("clip", 0.5)])
def test_the_first_frame_may_have_no_flow(release, cfg, norm, later):
    """Frames move by 8, 2, 2, 4 and 2: without the first the clip's maximum is 4."""
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "train", release.root)
    cfg.MODEL.SKA.ENABLED = True
    cfg.INPUT.FLOW.NORM, cfg.INPUT.FLOW.SERIES = norm, 2
    flow = np.zeros((5, 1, 2, 4, 4))
    flow[:, 0, 0] = np.array([8.0, 2.0, 2.0, 4.0, 2.0])[:, None, None]
    store_flow(record, flow)
    forward = ClipMapper(cfg, is_train=False)(record)["flow"]
    cfg.INPUT.FLOW.FIRST_FRAME = "zero"
    zero = ClipMapper(cfg, is_train=False)(record)["flow"]
    assert forward[0].abs().max() == 1 and zero[0].eq(0).all()
    assert zero[1].abs().max().item() == pytest.approx(later)
    # Where some frames are loaded, it is still the clip's first frame that has none.
    cfg.INPUT.FRAMES_PER_CLIP = 2
    mapper, seen = ClipMapper(cfg, is_train=True), set()
    wanted = zero.abs().amax((1, 2, 3, 4))
    for _ in range(10):
        some = mapper(record)
        rows = some["frame_index"]
        assert some["flow"].abs().amax((1, 2, 3, 4)).tolist() == pytest.approx(wanted[rows].tolist())
        seen.add(bool(rows[0] == 0))
    assert seen == {True, False}


def test_unknown_choices_of_flow_are_refused(cfg):
    cfg.MODEL.SKA.ENABLED = True
    cfg.INPUT.FLOW.FIRST_FRAME = "none"
    with pytest.raises(ValueError, match="INPUT.FLOW.FIRST_FRAME is 'none'; choose forward or zero"):
        ClipMapper(cfg, is_train=False)


def test_missing_and_wrong_flow(release, cfg):
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "test", release.root)
    cfg.MODEL.SKA.ENABLED = True
    with pytest.raises(ClipError, match=r"Clip 'test/test_a': There is no flow file .*test_a.npz"):
        ClipMapper(cfg, is_train=False)(record)
    cfg.INPUT.FLOW.MISSING, cfg.INPUT.FLOW.SERIES = "zero", 3
    flow = ClipMapper(cfg, is_train=False)(record)["flow"]
    assert flow.shape == (5, 3, 2, 8, 8) and not flow.any()
    # A flow that is there but wrong is an error, whatever MISSING says.
    store_flow(record, np.zeros((4, 1, 2, 8, 10)))
    with pytest.raises(ClipError, match="has 4 frames but its clip has 5"):
        ClipMapper(cfg, is_train=False)(record)
    Path(record["flow_path"]).write_bytes(b"broken")
    with pytest.raises(ClipError, match="cannot be read"):
        ClipMapper(cfg, is_train=False)(record)
    cfg.INPUT.FLOW.MISSING = "ignore"
    with pytest.raises(ValueError, match="INPUT.FLOW.MISSING is 'ignore'; choose error or zero"):
        ClipMapper(cfg, is_train=False)


def test_published_flow(release, cfg):
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "test", release.root)
    folder = Path(record["flow_path"].removesuffix(".npz"))
    folder.mkdir(parents=True)
    for k in range(5):
        np.save(folder / f"flow_{k:04d}.npy", np.full(SOURCE, min(k, 1), np.float32))
    cfg.MODEL.SKA.ENABLED = True
    flow = ClipMapper(cfg, is_train=False)(record)["flow"]
    assert flow.shape == (5, 1, 2, 8, 8) and not flow[0].any() and not flow[:, :, 1].any()
    assert torch.allclose(flow[1:, :, 0], torch.ones(4, 1, 8, 8))
    cfg.INPUT.FLOW.NORM = "diagonal"
    with pytest.raises(ClipError, match="test/test_a.*'diagonal' cannot be used"):
        ClipMapper(cfg, is_train=False)(record)


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_mask_modes(release, cfg, mode):
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "test", release.root)
    release.mask(Path(record["mask_paths"][1]), mode=mode)
    masks = ClipMapper(cfg, is_train=False)(record)["masks"]
    assert np.array_equal(masks[1].numpy(), release.square(SOURCE)) and masks.dtype == torch.int64


def test_unusable_masks(release, cfg):
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "test", release.root)
    mapper, path = ClipMapper(cfg, is_train=False), Path(record["mask_paths"][1])
    for values, message in (
        (np.arange(12).reshape(3, 4), r"_2.png holds the values 0, 1, 2, 3, 4, 5, 6, 7, ..., expected 0 and 255"),
        (np.array([[0, 1, 255]]), "holds the values 0, 1, 255"),
        (np.full((4, 4, 3), (0, 0, 255)), "is a colour image"),
        (np.zeros((32, 32)), "is 32 x 32, but its image is 32 x 40; a mask may be smaller"),
    ):
        Image.fromarray(values.astype(np.uint8)).save(path)
        with pytest.raises(ClipError, match=f"Clip 'test/test_a': Mask .*{message}"):
            mapper(record)
    path.write_bytes(b"\x89PNG broken")
    with pytest.raises(ClipError, match="Mask .*_2.png cannot be read"):
        mapper(record)
    # 0 and 1 are read too, and so is a smaller mask of the image's proportions.
    Image.fromarray(release.square((16, 20)).astype(np.uint8)).save(path)
    assert np.array_equal(mapper(record)["masks"][1], release.square((16, 20)).repeat(2, 0).repeat(2, 1))
    # The squares that COMBO's scripts make of wide images come with masks of either shape.
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(path)
    assert not mapper({**record, "rebuilt": True})["masks"][1].any()


def test_unreadable_images(release, cfg):
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "test", release.root)
    mapper, path = ClipMapper(cfg, is_train=False), Path(record["image_paths"][3])
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ClipError, match="Clip 'test/test_a': Image .*mp4_4.png cannot be read: it is cut off"):
        mapper(record)
    path.write_bytes(b"")
    with pytest.raises(ClipError, match="mp4_4.png is empty"):
        mapper(record)
    release.image(path, (20, 20))
    with pytest.raises(ClipError, match="mp4_4.png is 20 x 20, but the clip's first image is 32 x 40"):
        mapper(record)
    path.unlink()
    with pytest.raises(ClipError, match="mp4_4.png cannot be read .No such file"):
        mapper(record)


def test_broken_sound_names_clip_and_file(release, cfg):
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "test", release.root)
    Path(record["wav_path"]).write_bytes(b"no sound")
    with pytest.raises(ClipError, match="Clip 'test/test_a': Audio file .*test_a.wav is not a wav file"):
        ClipMapper(cfg, is_train=False)(record)


def test_avss_clips_of_both_lengths(release, cfg):
    release.write_avss()
    mapper = ClipMapper(cfg, is_train=False)
    records = {record["label"]: record for record in load_records("avss", "test", release.root)}
    short, long = mapper(records["v1s"]), mapper(records["v2"])
    assert short["images"].shape[0] == 5 and long["images"].shape[0] == long["log_mel"].shape[0] == 10
    assert set(long["masks"].unique().tolist()) == {0, 17} and long["category"] == -1
    release.label_map(Path(records["v2"]["mask_paths"][9]), 71)
    with pytest.raises(
        ClipError, match=r"Clip 'v2/c_test': Label map .*9.png holds the values 0, 71, expected .* 70"
    ):
        mapper(records["v2"])
    train = ClipMapper(cfg, is_train=True)
    lengths = {r["label"]: len(train(r)["images"]) for r in load_records("avss", "train", release.root)}
    assert lengths == {"v1s": 1, "v1m": 5}


def test_training_clip_without_annotation(release, cfg):
    release.write_s4(names=("x",))
    (record,) = load_records("s4", "train", release.root)
    with pytest.raises(ClipError, match="Clip 'train/cat_meowing/x' has no annotated frame"):
        ClipMapper(cfg, is_train=True)({**record, "mask_paths": [None] * 5})


def test_pre_masks_go_through_the_geometry(release, cfg):
    release.write_ms3(names=("a",))
    for split in ("train", "test"):
        for k in range(1, 6):
            # Half the size of the frames.
            release.image(release.root / f"pre/{split}_a/{split}_a_{k}_mask_color.png", (16, 20), shift=0)
    cfg.MODEL.PRE_MASK.ENABLED = True
    options = {"pre_masks": True, "pre_mask_root": release.root / "pre"}
    for split in ("train", "test"):
        (record,) = load_records("ms3", split, release.root, **options)
        clip = ClipMapper(cfg, is_train=split == "train")(record)
        validate_clip(clip, needs=("pre_masks",))
        assert clip["pre_masks"].shape == (5, 3, 48, 48)
        if split == "train":
            padding = (clip["masks"] == 255)[:, None].expand(-1, 3, -1, -1)
            assert (clip["pre_masks"][padding] == 128).all()
    with pytest.raises(ClipError, match="MODEL.PRE_MASK.ENABLED needs were not listed"):
        ClipMapper(cfg, is_train=True)(load_records("ms3", "train", release.root)[0])


def test_only_rgb(cfg):
    cfg.INPUT.FORMAT = "BGR"
    with pytest.raises(ValueError, match="INPUT.FORMAT is 'BGR'"):
        ClipMapper(cfg, is_train=True)


def test_streams_of_other_proportions_are_refused(release, cfg):
    """A turned video gives flow of a turned frame; squares, to which the releases squeeze frames, go with any."""
    release.write_ms3(names=("a",))
    (record,) = load_records("ms3", "test", release.root)
    cfg.MODEL.SKA.ENABLED = True
    meta = {"method": "dis", "weights": "", "fps": 1.0, "time_step": 1.0, "source": "video"}
    meta["clip_id"] = record["clip_id"]
    for size, fits in (((32, 40), True), ((64, 80), True), ((50, 50), True), ((40, 32), False), ((32, 90), False)):
        sized = {**meta, "height": size[0], "width": size[1]}
        write_flow(record["flow_path"], FlowRecord(flow=np.ones((5, 1, 2, 8, 8), np.float16), meta=sized))
        needs = Needs(read_flow=True)
        found = {finding.kind for finding in check_clip(record, needs, content=True) if finding.level == ERROR}
        assert found == (set() if fits else {"flow of other proportions"})
        if fits:
            ClipMapper(cfg, is_train=False)(record)
        else:
            with pytest.raises(ClipError, match=rf"images of {size[0]} x {size[1]} pixels, but .* are 32 x 40"):
                ClipMapper(cfg, is_train=False)(record)
