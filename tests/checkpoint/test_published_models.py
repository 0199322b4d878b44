"""Whole published models: VCT's goldens through files on disk, COMBO's and Mask2Former's layouts, round trips."""

import pickle

import pytest
import torch

from ska_vct.checkpoint.checkpointer import CheckpointError, StrictCheckpointer, load_file
from ska_vct.checkpoint.convert.vct import from_vct, to_vct
from ska_vct.checkpoint.loading import LoadOptions
from ska_vct.checkpoint.writing import convert_file, save_weights
from tests.checkpoint.conftest import fresh_model, golden_clip, published_vct
from tests.parity.model_kinds import _compare_semantic

FILES = ("vct_model_s4.npz", "vct_model_avss.npz")  # with and without the pre-mask encoder
INFERENCE = LoadOptions(inference=True)


def write(state: dict, folder, kind: str) -> str:
    path = str(folder / f"m.{'safetensors' if kind == 'safetensors' else 'pkl' if kind == 'pkl' else 'pth'}")
    if kind == "detectron2":
        more = {"optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "iteration": 7}
        torch.save({"model": state, **more}, path)
    elif kind == "bare":
        torch.save(state, path)
    elif kind == "distributed":
        torch.save({f"module.{key}": value for key, value in state.items()}, path)
    elif kind == "safetensors":
        save_weights(path, state, {})
    else:
        content = {"model": {key: value.numpy() for key, value in state.items()}, "__author__": "x"}
        with open(path, "wb") as file:
            pickle.dump(content, file)
    return path


def answers_as_published(model, golden) -> None:
    with torch.no_grad():
        sem_seg = model([golden_clip(golden)])[0]["sem_seg"]
    rows = list(_compare_semantic(sem_seg, golden))
    assert rows and all(row.ok for row in rows), rows


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["detectron2", "bare", "distributed", "safetensors", "pkl"])
def test_vct_answers_as_published(goldens, tmp_path, randomize, name, kind):
    golden, state = published_vct(goldens, name)
    model = randomize(fresh_model(golden, state))
    checkpointer = StrictCheckpointer(model, options=INFERENCE)
    checkpointer.load(write(state, tmp_path, kind))
    unused = set(checkpointer.report.unused)
    assert unused == {k for k in state if ".embeddings." in k and k.startswith("audio_backbone")} | {
        "criterion.empty_weight"
    }
    answers_as_published(model, golden)


@pytest.mark.parametrize("name", FILES)
def test_vct_comes_back_exactly(goldens, tmp_path, name):
    _, state = published_vct(goldens, name)
    source, ours, back = write(state, tmp_path, "bare"), tmp_path / "ours.safetensors", tmp_path / "back.pth"
    convert_file(source, ours, to="ska_vct")
    convert_file(ours, back, to="vct")
    again = load_file(back)["model"]
    wanted = {k: v for k, v in state.items() if not k.startswith("audio_backbone.embeddings.")}
    assert again.keys() == wanted.keys()
    assert all(torch.equal(again[key], value) for key, value in wanted.items())
    # Without this mark Detectron2 takes the file for one of the first version and renames entries.
    assert again._metadata["sem_seg_head"]["version"] == 2


def test_ours_comes_back_exactly_and_names_what_vct_lacks(tiny_cfg, randomize):
    from detectron2.modeling import build_model

    tiny_cfg.MODEL.PRE_MASK.ENABLED = True
    tiny_cfg.MODEL.BACKBONE.NAME = "build_swin_backbone"
    swin = tiny_cfg.MODEL.SWIN
    swin.EMBED_DIM, swin.DEPTHS, swin.NUM_HEADS, swin.WINDOW_SIZE = 16, [1, 1, 2, 1], [1, 2, 2, 2], 4
    tiny_cfg.MODEL.MPQG.NUM_PROTOTYPES = 23
    model = randomize(build_model(tiny_cfg))
    state = model.state_dict()
    published, left_out = to_vct(state)
    again = from_vct(published).state
    assert state.keys() - again.keys() == left_out.keys()
    assert all(torch.equal(again[key], state[key]) for key in again)
    assert all(name.startswith(("ska.", "brm.", "mpqg.motion_gate", "mpqg.retrieved_proj")) for name in left_out)


def of_relative(state: dict, classes: int) -> dict:
    """VCT's state as a Mask2Former has it: no sound, no queries made from pixels, other classes."""
    head = "sem_seg_head.predictor."
    gone = ("audio_backbone", "sem_seg_head.audio_trans", f"{head}visual_query", f"{head}audio_proj")
    gone += (f"{head}proto_proj", "criterion.logit_scale", "pre_sam", "scale_factor")
    result = {key: value for key, value in state.items() if not key.startswith(gone)}
    result[f"{head}level_embed.weight"] = state[f"{head}level_embed.weight"][1:]
    width = state[f"{head}class_embed.weight"].shape[1]
    result[f"{head}class_embed.weight"], result[f"{head}class_embed.bias"] = (
        torch.rand(classes, width),
        torch.rand(classes),
    )
    return result


def first_version(state: dict) -> dict:
    result = {}
    for key, value in state.items():
        key = key.replace("predictor.query_feat", "predictor.static_query")
        result[key.replace("sem_seg_head.pixel_decoder.", "sem_seg_head.")] = value
    return result


@pytest.mark.parametrize("rename", [dict, first_version])
def test_mask2former_gives_backbone_pixel_decoder_and_decoder(goldens, tmp_path, randomize, rename):
    golden, state = published_vct(goldens, "vct_model_avss.npz")
    model = fresh_model(golden, state)
    model.load_state_dict(from_vct(state).state, strict=False)
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    for part in (model.backbone, model.pixel_decoder, model.decoder.layers, model.decoder.mask_embed):
        randomize(part)
    randomize(model.mpqg.query_feat)
    checkpointer = StrictCheckpointer(model)
    checkpointer.load(write(rename(of_relative(state, 134)), tmp_path, "pkl"))
    # What the file lacks stayed, and what it has came: together they are the published VCT again.
    assert torch.equal(model.decoder.class_embed.weight, kept["decoder.class_embed.weight"])
    answers_as_published(model, golden)
    assert "decoder.level_embed.weight[:1]" in checkpointer.report.kept
    with pytest.raises(CheckpointError, match="predictions depend on"):
        StrictCheckpointer(model, options=INFERENCE).load(write(of_relative(state, 134), tmp_path, "bare"))


@pytest.mark.parametrize("queries", ["whole", "half"])
def test_combo_gives_all_but_its_fusion(goldens, tmp_path, randomize, queries):
    golden, state = published_vct(goldens, "vct_model_s4.npz")
    head = "sem_seg_head."
    theirs = of_relative(state, 3)
    theirs |= {k: v for k, v in state.items() if k.startswith(("pre_sam", "scale_factor", "audio_backbone"))}
    for key in ("class_embed.weight", "class_embed.bias"):
        theirs[f"{head}predictor.{key}"] = state[f"{head}predictor.{key}"]
    fusion = ("audio_pos.weight", "level_embed.weight", "b_attn.attn_list.0.v_proj.weight", "b_attn.gamma_a")
    theirs |= {f"{head}fusion_module.{key}": torch.rand(2, 2) for key in fusion}
    theirs |= {f"{head}audio_transformation.embeddings.{i}.weight": torch.rand(4, 128) for i in (0, 2, 4)}
    if queries == "half":
        theirs[f"{head}predictor.query_feat.weight"] = torch.rand(12, 32)
    model = fresh_model(golden, state)
    model.load_state_dict(from_vct(state).state, strict=False)
    for part in (model.backbone, model.pre_mask_encoder, model.audio_encoder.backbone, model.pixel_decoder):
        randomize(part)
    randomize(model.decoder.layers)
    randomize(model.decoder.class_embed)
    checkpointer = StrictCheckpointer(model)
    checkpointer.load(write(theirs, tmp_path, "detectron2"))
    assert checkpointer.report.title == "COMBO-AVS checkpoint"
    assert {f"{head}fusion_module.{key}" for key in fusion} <= set(checkpointer.report.unused)
    assert (f"{head}predictor.query_feat.weight" in checkpointer.report.unused) == (queries == "half")
    answers_as_published(model, golden)


def test_a_converted_mask2former_still_may_lack_what_mask2former_lacks(goldens, tmp_path):
    golden, state = published_vct(goldens, "vct_model_avss.npz")
    source = write(of_relative(state, 151), tmp_path, "bare")
    for out in (tmp_path / "ours.pth", tmp_path / "ours.safetensors"):
        lines = convert_file(source, out, to="ska_vct")
        assert any("class_embed" in line for line in lines)
        checkpointer = StrictCheckpointer(fresh_model(golden, state))
        checkpointer.load(str(out))
        assert checkpointer.report.loaded
