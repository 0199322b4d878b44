"""The whole model: clips of any length and size, frames that must not matter, parameters that must train."""

import pytest
import torch

from ska_vct.modeling.inference import segment
from ska_vct.structures import ClipError

NO_NOISE = ("MODEL.MPQG.MOTION", False, "MODEL.SKA.ENABLED", False)


@pytest.fixture
def quiet_groups(monkeypatch):
    """Grouping without Gumbel noise, so that two forward passes can be compared."""
    monkeypatch.setattr("ska_vct.modeling.queries.mpqg.sample_gumbel", lambda shape, like: torch.zeros(shape))


def frozen_norms(model):
    """Train, with BatchNorm on its running statistics: the batch must not enter a comparison of batches."""
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    return model


def test_every_parameter_gets_a_gradient(tiny):
    make_model, make_clip = tiny
    for overrides in (
        (),
        ("MODEL.MPQG.NUM_PROTOTYPES", 5),
        ("MODEL.BRM.ENABLED", False, *NO_NOISE),
        ("MODEL.MPQG.MOTION", False),
        ("MODEL.SKA.NAME", "FlowMagnitude"),
        ("MODEL.SKA.ENERGY_PRIOR", "on"),
        ("MODEL.SKA.NAME", "TemporalSKA", "MODEL.SKA.CENTRED", False, "MODEL.SKA.STEPS", 5),
        ("MODEL.MPQG.ANCHORS", 2, "MODEL.BRM.HIGH_FREQUENCY", True, "MODEL.BRM.FUSION", 1.0),
        ("MODEL.SKA.NAME", "TemporalSKA", "MODEL.SKA.ENERGY_PRIOR", "off", "MODEL.SKA.CHANNELS", "uvm"),
    ):
        model = make_model(*overrides).train()
        clips = [
            make_clip(frames, seed=i, flow=torch.rand(frames, 4, 2, 24, 24)) for i, frames in enumerate((3, 2))
        ]
        losses = model(clips)
        sum(losses.values()).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_fused_contours_change_masks_in_inference_and_no_loss(tiny, quiet_groups):
    make_model, make_clip = tiny
    plain, fused = make_model(), make_model("MODEL.BRM.FUSION", 2.0)
    fused.load_state_dict(plain.state_dict())
    results = []
    for model in (plain, fused):
        losses = frozen_norms(model)([make_clip(2)])
        with torch.no_grad():
            results.append((losses, model.eval()([make_clip(2)])[0]["sem_seg"]))
    assert all(torch.equal(loss, results[1][0][name]) for name, loss in results[0][0].items())
    assert not torch.allclose(results[0][1], results[1][1])
    assert fused.reads_boundary and not plain.reads_boundary


def test_frozen_audio_keeps_its_convolutions_only(tiny):
    make_model, make_clip = tiny
    model = make_model("MODEL.AUDIO.FREEZE", True).train()
    sum(model([make_clip(2)]).values()).backward()
    assert all(p.grad is None for p in model.audio_encoder.backbone.parameters())
    assert all(p.grad is not None for p in model.audio_encoder.mlp.parameters())


def test_unannotated_and_padding_frames_change_neither_losses_nor_gradients(tiny, quiet_groups):
    make_model, make_clip = tiny
    model = frozen_norms(make_model())
    long = make_clip(5, annotated=2)
    long["frame_valid"][4] = False
    short = {k: v[:2] if isinstance(v, torch.Tensor) else v for k, v in long.items()}
    results = []
    for clip in (long, short):
        model.zero_grad()
        losses = model([clip])
        sum(losses.values()).backward()
        results.append((losses, [p.grad.clone() for p in model.parameters()]))
    (ours, grads), (wanted, wanted_grads) = results
    assert all(torch.equal(ours[name], wanted[name]) for name in wanted)
    assert all(torch.equal(a, b) for a, b in zip(grads, wanted_grads, strict=True))


@pytest.mark.parametrize("lengths", [(5, 10), (1, 3, 2)])
def test_clips_of_one_batch_do_not_touch_each_other(tiny, lengths):
    make_model, make_clip = tiny
    model = make_model().eval()
    clips = [make_clip(length, seed=i) for i, length in enumerate(lengths)]
    with torch.no_grad():
        together = model(clips)
        for clip, result in zip(clips, together, strict=True):
            alone = model([clip])[0]["sem_seg"]
            assert result["sem_seg"].shape == (len(clip["images"]), 2, 56, 48)
            # kernels sum in another order for another batch size
            assert torch.allclose(result["sem_seg"], alone, atol=1e-4)


@pytest.mark.parametrize("size", [(64, 64), (33, 97), (96, 40)])
def test_any_input_size(tiny, size):
    make_model, make_clip = tiny
    model = make_model("TEST.RETURN_EXTRAS", True)
    clip = make_clip(2, size=size)
    assert all(value.isfinite() for value in model.train()([clip]).values())
    with torch.no_grad():
        result = model.eval()([clip])[0]
    assert result["sem_seg"].shape == (2, 2, 56, 48)
    assert result["motion_map"].shape == (2, 24, 24) and result["boundary"].shape[0] == 2


def test_swin_and_pre_masks(tiny):
    make_model, make_clip = tiny
    model = make_model(
        *("MODEL.BACKBONE.NAME", "build_swin_backbone", "MODEL.SWIN.EMBED_DIM", 16),
        *("MODEL.SWIN.DEPTHS", [1, 1, 1, 1], "MODEL.SWIN.NUM_HEADS", [1, 2, 4, 8], "MODEL.SWIN.WINDOW_SIZE", 4),
        *("MODEL.PRE_MASK.ENABLED", True),
    ).train()
    clip = make_clip(2)
    with pytest.raises(ClipError, match="pre_masks"):
        model([clip])
    clip["pre_masks"] = clip["images"].flip(-1)
    sum(model([clip]).values()).backward()
    assert all(p.grad is not None for p in model.pre_mask_encoder.parameters())


def test_prototypes_follow_the_category_or_the_mask(tiny):
    make_model, make_clip = tiny
    model = frozen_norms(make_model("MODEL.MPQG.NUM_PROTOTYPES", 5))
    losses = [model([make_clip(1, category=c)])["loss_proto"].item() for c in (0, 3)]
    assert losses[0] != losses[1]
    assert model([make_clip(1, category=-1)])["loss_proto"] == 0
    by_mask = frozen_norms(make_model("MODEL.MPQG.NUM_PROTOTYPES", 2))
    assert by_mask([make_clip(1, category=-1)])["loss_proto"] > 0


def test_a_clip_without_flow_is_named(tiny):
    make_model, make_clip = tiny
    clip = make_clip(2)
    del clip["flow"]
    with pytest.raises(ClipError, match=r"'made/up_0' lacks flow"):
        make_model()([clip])


def test_training_without_any_annotated_frame_is_refused(tiny):
    make_model, make_clip = tiny
    with pytest.raises(ClipError, match="annotated frame"):
        make_model().train()([make_clip(2, annotated=0)])


def test_eval_returns_the_model(tiny):
    model = tiny[0]()
    assert model.eval() is model


def test_results_do_not_depend_on_how_many_frames_are_resized_at_a_time(monkeypatch):
    logits, masks = torch.randn(5, 6, 3), torch.randn(5, 6, 8, 8)
    sizes = {"padded_size": (32, 32), "image_size": (30, 25), "output_size": (20, 21)}
    together = segment(logits, masks, **sizes)
    monkeypatch.setattr("ska_vct.modeling.inference._MASK_NUMBERS", 2 * 6 * 32 * 32)
    assert torch.allclose(segment(logits, masks, **sizes), together, atol=1e-6)
    alone = torch.cat([segment(logits[i : i + 1], masks[i : i + 1], **sizes) for i in range(5)])
    # products of other sizes may sum in another order
    assert torch.allclose(alone, together, atol=1e-6)


def test_a_frame_is_segmented_from_itself_alone(tiny):
    make_model, make_clip = tiny
    model = make_model().eval()
    clip = make_clip(3)
    changed = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in clip.items()}
    for field in ("images", "log_mel", "flow"):
        changed[field][2] = changed[field][2].flip(-1)
    with torch.no_grad():
        a, b = model([clip])[0]["sem_seg"], model([changed])[0]["sem_seg"]
    assert torch.equal(a[:2], b[:2]) and not torch.allclose(a[2], b[2])


def test_pictures_that_clips_share_are_looked_at_once_and_change_no_result(tiny):
    make_model, make_clip = tiny
    model = make_model("MODEL.PRE_MASK.ENABLED", True).eval()
    clips = [make_clip(frames, seed=frames) for frames in (3, 2)]
    for clip in clips:
        clip["pre_masks"] = clip["images"].flip(0)
    clips[0]["frame_valid"][1] = False
    other_sound = [clip | {"log_mel": torch.randn_like(clip["log_mel"])} for clip in clips]
    seen = []
    model.backbone.register_forward_hook(lambda module, inputs, outputs: seen.append(len(inputs[0])))
    with torch.no_grad():
        mixed = [clips[0], clips[1], other_sound[0], other_sound[1]]
        together = model(mixed)
        assert seen == [4]  # two frames that exist of each, not eight
        apart = [model([{key: value for key, value in clip.items()}])[0] for clip in mixed]
        copies = model([clip | {"images": clip["images"].clone()} for clip in mixed])
    assert seen[-1] == 8
    for result, alone, copied in zip(together, apart, copies, strict=True):
        # Other sizes of batches are added up in another order.
        torch.testing.assert_close(result["sem_seg"], alone["sem_seg"], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(result["sem_seg"], copied["sem_seg"], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together[0]["sem_seg"], together[2]["sem_seg"], rtol=1e-3, atol=1e-3)


def test_training_does_not_share_images(tiny):
    make_model, make_clip = tiny
    model = frozen_norms(make_model())
    clip = make_clip(2)
    seen = []
    model.backbone.register_forward_hook(lambda module, inputs, outputs: seen.append(len(inputs[0])))
    model([clip, clip])
    assert seen == [4]
