"""Exported networks answer as the model does, for frames and sizes they were not exported with."""

import pytest
import torch
from detectron2.modeling import build_model

from ska_vct.checkpoint.files import load_file
from ska_vct.config_files import portable_config
from ska_vct.deploy.export import ExportError, export
from ska_vct.deploy.network import InferenceNetwork, example_inputs
from ska_vct.engine.pretrained import find_cfg
from ska_vct.engine.setup import load_cfg
from ska_vct.engine.weights import build_trained_model
from ska_vct.utils.errors import ConfigError


@pytest.fixture
def cfg(tiny_cfg):
    # Two stages of two sizes and narrow widths: the graph has the same operations.
    tiny_cfg.MODEL.DECODER.NUM_LAYERS = 2
    tiny_cfg.MODEL.AUDIO.CHANNELS, tiny_cfg.MODEL.AUDIO.MLP_DIMS = [4, 4, 8, 8, 8, 8], [16, 16]
    return tiny_cfg


def save(cfg, folder):
    model = build_model(cfg).eval()
    torch.save({"model": model.state_dict()}, folder / "m.pth")
    (folder / "config.yaml").write_text(cfg.dump())
    return model


def run_export(
    folder, to: str, name: str, *, dynamic_size: bool = False, weights="m.pth", config=True, half=False
):
    config_file = folder / "config.yaml" if config else ""
    options = {"config_file": config_file, "dynamic_size": dynamic_size, "half": half}
    return export(folder / weights, folder / name, to=to, **options)


@pytest.mark.parametrize("keys", [(), ("MODEL.MPQG.ANCHORS", 3, "MODEL.BRM.FUSION", 1.0)])
def test_the_network_of_tensors_is_the_model(cfg, make_clip, keys):
    cfg.merge_from_list([*keys])
    model = build_model(cfg).eval()
    clip = make_clip(eval_side=cfg.INPUT.EVAL_SIZE[0])
    network = InferenceNetwork(model=model, output_size=cfg.INPUT.EVAL_SIZE)
    with torch.no_grad():
        wanted = model([clip])[0]["sem_seg"]
        found = network(clip["images"], clip["log_mel"], clip["flow"])
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("dynamic_size", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_torch_export_answers_as_the_model_does(cfg, tmp_path, dynamic_size):
    save(cfg, tmp_path)
    lines = run_export(tmp_path, "torch", "out.pt2", dynamic_size=dynamic_size)
    # export() has compared five frames (and another size); here one frame, by hand.
    program = torch.export.load(tmp_path / "out.pt2").module()
    network = InferenceNetwork(
        model=build_trained_model(load_cfg(tmp_path / "config.yaml", weights(tmp_path))), output_size=(48, 48)
    )
    inputs = example_inputs(cfg, network, frames=1, size=(96, 128) if dynamic_size else (64, 64))
    with torch.no_grad():
        torch.testing.assert_close(program(**inputs), network(**inputs), rtol=1e-4, atol=1e-5)
    assert "largest difference" in lines[-1]


def weights(folder) -> list[str]:
    return ["MODEL.WEIGHTS", str(folder / "m.pth"), "MODEL.DEVICE", "cpu"]


@pytest.mark.parametrize("backbone", ["swin", pytest.param("timm", marks=pytest.mark.slow)])
def test_onnx_answers_as_the_model_does(cfg, tmp_path, backbone):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    dynamic = backbone == "timm"
    if backbone == "swin":
        cfg.MODEL.BACKBONE.NAME = "build_swin_backbone"
        swin = cfg.MODEL.SWIN
        swin.EMBED_DIM, swin.DEPTHS, swin.NUM_HEADS, swin.WINDOW_SIZE = 16, [1, 1, 2, 1], [1, 2, 2, 2], 4
        cfg.MODEL.PRE_MASK.ENABLED = True
        cfg.MODEL.MPQG.NUM_PROTOTYPES = 0
    save(cfg, tmp_path)
    run_export(tmp_path, "onnx", "out.onnx", dynamic_size=dynamic)
    session = onnxruntime.InferenceSession(tmp_path / "out.onnx", providers=["CPUExecutionProvider"])
    network = InferenceNetwork(
        model=build_trained_model(load_cfg(tmp_path / "config.yaml", weights(tmp_path))), output_size=(48, 48)
    )
    assert [i.name for i in session.get_inputs()] == network.input_names
    assert "NUM_QUERIES: 6" in session.get_modelmeta().custom_metadata_map["ska_vct.config"]
    for frames, size in ((1, (64, 64)), (7, (128, 96) if dynamic else (64, 64))):
        inputs = example_inputs(cfg, network, frames=frames, size=size)
        found = session.run(["sem_seg"], {name: value.numpy() for name, value in inputs.items()})[0]
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), network(**inputs), rtol=1e-3, atol=1e-4)


def test_slim_safetensors_need_no_config_to_be_exported_again(cfg, tmp_path):
    model = save(cfg, tmp_path)
    lines = run_export(tmp_path, "safetensors", "out.safetensors")
    assert "entries and the config" in lines[0]
    run_export(tmp_path, "safetensors", "again.safetensors", weights="out.safetensors", config=False)
    first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("out", "again"))
    assert first["__metadata__"] == second["__metadata__"]
    assert all(torch.equal(first["model"][name], value) for name, value in second["model"].items())
    assert len(model.state_dict()) == int(lines[0].split(": ")[1].split()[0])


def test_half_precision_halves_matrices_and_keeps_norms(cfg, tmp_path):
    save(cfg, tmp_path)
    run_export(tmp_path, "safetensors", "out.safetensors")
    run_export(tmp_path, "safetensors", "half.safetensors", weights="out.safetensors", config=False, half=True)
    whole, half = (load_file(tmp_path / f"{name}.safetensors")["model"] for name in ("out", "half"))
    for name, value in whole.items():
        halved = value.is_floating_point() and value.dim() > 1
        assert half[name].dtype == (torch.float16 if halved else value.dtype)
        assert torch.allclose(half[name].to(value.dtype), value, atol=2e-3)
    loaded = build_trained_model(find_cfg(tmp_path / "half.safetensors", device="cpu"))
    assert all(p.dtype == torch.float32 for p in loaded.parameters())


def test_the_config_inside_knows_nothing_of_this_machine(cfg, tmp_path):
    cfg.MODEL.WEIGHTS = cfg.OUTPUT_DIR = cfg.DATASETS.ROOT = cfg.INPUT.FLOW.ROOT = str(tmp_path)
    cfg.MODEL.BACKBONE_WEIGHTS = cfg.MODEL.AUDIO.WEIGHTS = str(tmp_path / "w.pth")
    cfg.freeze()
    assert str(tmp_path) not in portable_config(cfg)


def test_wrong_wishes_give_one_sentence(cfg, tmp_path):
    save(cfg, tmp_path)
    with pytest.raises(ExportError, match="'.onnx'"):
        run_export(tmp_path, "onnx", "out.pt2")
    with pytest.raises(ConfigError, match="holds no config.*--config FILE"):
        run_export(tmp_path, "torch", "out.pt2", config=False)
    cfg.MODEL.BACKBONE.NAME = "build_swin_backbone"
    with pytest.raises(ExportError, match="Swin's windows fix the image size"):
        from ska_vct.deploy.export import make_program

        make_program(cfg, None, dynamic_size=True)


def test_variants_are_exported_too(cfg, tmp_path):
    cfg.merge_from_list(
        [
            "MODEL.SKA.NAME",
            "TemporalSKA",
            "MODEL.SKA.CHANNELS",
            "uvm",
            "MODEL.SKA.STEPS",
            5,
            "INPUT.FLOW.SERIES",
            10,
        ]
        + ["MODEL.MPQG.ANCHORS", 3, "MODEL.BRM.FUSION", 1.0, "MODEL.BRM.HIGH_FREQUENCY", True]
    )
    save(cfg, tmp_path)
    # export() compares the program with the model for other numbers of frames.
    assert run_export(tmp_path, "torch", "out.pt2")
