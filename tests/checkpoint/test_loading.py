"""Every entry counts: what does not fit stops with its table and its cause, what may differ says so."""

import copy

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model

from ska_vct.checkpoint.checkpointer import CheckpointError, StrictCheckpointer
from ska_vct.checkpoint.convert.resize import mixer_grid_of, resize_mixer, resize_position_table
from ska_vct.checkpoint.loading import LoadOptions, load_into
from ska_vct.checkpoint.writing import read_config, save_slim

SWIN = {"EMBED_DIM": 16, "DEPTHS": [1, 1, 2, 1], "NUM_HEADS": [1, 2, 2, 2], "WINDOW_SIZE": 4}


@pytest.fixture
def swin_cfg(tiny_cfg):
    tiny_cfg.MODEL.BACKBONE.NAME = "build_swin_backbone"
    for key, value in SWIN.items():
        tiny_cfg.MODEL.SWIN[key] = value
    return tiny_cfg


def changed(cfg, key: str, value):
    cfg = copy.deepcopy(cfg)
    cfg.merge_from_list([key, value])
    return cfg


# key, value of the model that the default's weights shall go into; what the message must say
CASES = [
    (
        "MODEL.NUM_CLASSES",
        5,
        ["decoder.class_embed.bias", "(6,)", "(3,)", "the file has 2 classes", "NUM_CLASSES 2"],
    ),
    ("MODEL.DECODER.NUM_QUERIES", 9, ["decoder.query_embed.weight", "(9, 32)", "(6, 32)", "NUM_QUERIES 6"]),
    ("INPUT.SIZE", (96, 96), ["mpqg.query_mixer.0.weight", "16 x 16 cells", "24 x 24", "RESIZE_ON_LOAD True"]),
    ("MODEL.SWIN.WINDOW_SIZE", 5, ["relative_position_bias_table", "WINDOW_SIZE 4", "RESIZE_ON_LOAD True"]),
    ("MODEL.SWIN.EMBED_DIM", 32, ["patch_embed.proj", "a different size of backbone"]),
    ("MODEL.SWIN.DEPTHS", [1, 1, 3, 1], ["layers.2.blocks.2", "missing", "a different number of blocks"]),
    ("MODEL.HIDDEN_DIM", 64, ["set MODEL.HIDDEN_DIM 32"]),
    ("MODEL.MPQG.NUM_PROTOTYPES", 4, ["mpqg.prototypes.weight", "missing", "NUM_PROTOTYPES 0", "WEIGHTS_SKIP"]),
    ("MODEL.SKA.ENABLED", False, ["ska.", "unexpected", "MODEL.SKA.ENABLED True"]),
    ("MODEL.SKA.ENERGY_PRIOR", "on", ["ska.energy_weight", "missing", "MODEL.SKA.ENERGY_PRIOR off"]),
    ("MODEL.BRM.ENABLED", False, ["brm.", "unexpected", "MODEL.BRM.ENABLED True"]),
    ("MODEL.PRE_MASK.ENABLED", True, ["pre_mask_encoder.", "missing", "MODEL.PRE_MASK.ENABLED False"]),
    ("MODEL.DECODER.NUM_LAYERS", 6, ["decoder.layers.4", "missing", "MODEL.DECODER.NUM_LAYERS"]),
    ("MODEL.PIXEL_DECODER.ENC_LAYERS", 2, ["pixel_decoder.layers.1", "missing", "ENC_LAYERS"]),
    ("MODEL.BACKBONE.NAME", "build_timm_backbone", ["backbone (Swin) is not the config's (ResNet)"]),
]


@pytest.mark.parametrize(("key", "value", "words"), CASES, ids=[case[0] for case in CASES])
def test_the_table_and_the_cause(swin_cfg, key, value, words):
    state = build_model(swin_cfg).state_dict()
    other = build_model(changed(swin_cfg, key, value))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(CheckpointError) as info:
        load_into(other, state, path="m.pth")
    message = str(info.value)
    assert message.startswith("MODEL.WEIGHTS: checkpoint 'm.pth' (SKA-VCT checkpoint) does not fit")
    full = message + str(info.value.details)
    assert all(word in full for word in words), message
    assert "Likely cause: " in message
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


def test_the_other_way_round_names_the_surplus(swin_cfg):
    more = changed(changed(swin_cfg, "MODEL.PRE_MASK.ENABLED", True), "MODEL.MPQG.NUM_PROTOTYPES", 4)
    with pytest.raises(CheckpointError) as info:
        load_into(build_model(swin_cfg), build_model(more).state_dict(), path="m.pth")
    assert "set MODEL.PRE_MASK.ENABLED True" in str(info.value)
    assert "prototypes, the config none" in str(info.value)


def test_skipped_parts_keep_their_initial_values_and_all_others_arrive(swin_cfg):
    source = build_model(changed(swin_cfg, "MODEL.NUM_CLASSES", 5))
    target = build_model(swin_cfg)
    before = target.decoder.class_embed.weight.clone()
    options = LoadOptions(skip=("decoder.class_embed.",))
    report = load_into(target, source.state_dict(), path="m.pth", options=options)
    assert torch.equal(target.decoder.class_embed.weight, before)
    own = source.state_dict()
    arrived = {k: v for k, v in target.state_dict().items() if "class_embed" not in k}
    assert all(torch.equal(own[name], value) for name, value in arrived.items())
    skipped = {"decoder.class_embed.weight", "decoder.class_embed.bias"}
    assert skipped == set(report.kept) == set(report.unused)
    with pytest.raises(CheckpointError, match="class_embed.*random weights"):
        options = LoadOptions(skip=options.skip, inference=True)
        load_into(target, source.state_dict(), path="m.pth", options=options)


def test_resized_mixer_does_what_the_old_one_did(swin_cfg, make_clip, caplog):
    """On a larger input, a model whose mixer was resized answers as one that keeps the old mixer grid."""
    state = build_model(swin_cfg).state_dict()
    larger = changed(swin_cfg, "INPUT.SIZE", (96, 96))
    resized = build_model(larger).eval()
    report = load_into(resized, state, path="m.pth", options=LoadOptions(resize=True))
    kept = build_model(changed(larger, "MODEL.MPQG.MIXER_GRID", (16, 16))).eval()
    load_into(kept, state, path="m.pth")
    assert report.resized == {"mpqg.query_mixer.0.weight": ((64, 256), (64, 576))}
    assert any("resized" in line and "(64, 256) -> (64, 576)" in line for line in report.lines())
    features = torch.rand(2, 32, 24, 24)
    with torch.no_grad():
        x = resized.mpqg.pre_proj(features)
        small = F.interpolate(x, size=(16, 16), mode="bilinear", align_corners=False)
        wanted = kept.mpqg.query_mixer(small.flatten(2))
        torch.testing.assert_close(resized.mpqg.query_mixer(x.flatten(2)), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("old", "new"), [((6, 6), (4, 4)), ((4, 6), (8, 12)), ((5, 5), (5, 5))])
def test_mixer_resize_is_the_resize_of_features(old, new):
    weight, features = torch.rand(3, old[0] * old[1]), torch.rand(2, 1, *new)
    shrunk = F.interpolate(features, size=old, mode="bilinear", align_corners=False).flatten(1)
    found = features.flatten(1) @ resize_mixer(weight, old, new).t()
    torch.testing.assert_close(found, shrunk @ weight.t())


def test_grids_keep_their_proportions():
    assert mixer_grid_of(576, (12, 12)) == (24, 24)
    assert mixer_grid_of(96, (4, 6)) == (8, 12)
    assert mixer_grid_of(577, (24, 24)) is None


def test_position_tables_are_resized_and_their_index_stays_the_models(swin_cfg):
    state = build_model(swin_cfg).state_dict()
    other = build_model(changed(swin_cfg, "MODEL.SWIN.WINDOW_SIZE", 6))
    name = "backbone.network.layers.2.blocks.1.attn.relative_position_"
    index = other.state_dict()[f"{name}index"].clone()
    report = load_into(other, state, path="m.pth", options=LoadOptions(resize=True))
    assert report.resized[f"{name}bias_table"] == ((49, 2), (121, 2))
    assert torch.equal(other.state_dict()[f"{name}index"], index)


def test_a_resized_table_keeps_its_level_and_its_slope():
    """Away from the border; PyTorch's bicubic kernel (a = -0.75) is exact on constants, not quite on slopes."""
    torch.testing.assert_close(resize_position_table(torch.full((49, 2), 3.0), 121), torch.full((121, 2), 3.0))
    side = torch.linspace(-1, 1, 13)
    table = (side[:, None] + 2 * side).flatten()[:, None]
    resized = resize_position_table(table, 23 * 23).reshape(23, 23)
    cells = (torch.arange(23) + 0.5) * 13 / 23 - 0.5
    position = cells / 6 - 1
    wanted = position[:, None] + 2 * position
    torch.testing.assert_close(resized[5:-5, 5:-5], wanted[5:-5, 5:-5], rtol=0, atol=0.03)


def test_a_slim_checkpoint_loads_back_and_has_its_config(tiny_cfg, tmp_path, make_clip):
    tiny_cfg.MODEL.MPQG.NUM_PROTOTYPES = 3
    model = build_model(tiny_cfg).eval()
    path = tmp_path / "slim.safetensors"
    save_slim(path, model.state_dict(), config=tiny_cfg.dump())
    assert read_config(path) == tiny_cfg.dump()
    other = build_model(tiny_cfg).eval()
    checkpointer = StrictCheckpointer(other, options=LoadOptions(inference=True))
    checkpointer.load(str(path))
    assert {name.split(".")[0] for name in checkpointer.report.kept} == {"prototype_alignment"}
    clip = make_clip()
    with torch.no_grad():
        assert torch.equal(model([clip])[0]["sem_seg"], other([clip])[0]["sem_seg"])


def test_weights_that_are_no_numbers_are_refused(tiny_cfg):
    model = build_model(tiny_cfg)
    state = copy.deepcopy(model.state_dict())
    state["decoder.norm.bias"][3] = float("nan")
    with pytest.raises(CheckpointError, match="NaN or infinity in decoder.norm.bias"):
        load_into(model, state, path="m.pth")


def test_resuming_takes_no_liberties(tiny_cfg, tmp_path):
    saved = build_model(tiny_cfg)
    StrictCheckpointer(saved, str(tmp_path)).save("last")
    options = LoadOptions(skip=("decoder.",), resize=True)
    model = build_model(tiny_cfg)
    checkpointer = StrictCheckpointer(model, str(tmp_path), options=options)
    checkpointer.resume_or_load("", resume=True)
    assert torch.equal(model.decoder.class_embed.weight, saved.decoder.class_embed.weight)
    assert checkpointer.options == options
