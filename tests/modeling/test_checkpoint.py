"""Checkpointed blocks: the same losses, gradients and averages, less memory; nothing kept for frozen parts."""

import copy

import pytest
import torch
from detectron2.modeling.backbone.swin import SwinTransformerBlock
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.parallel import DistributedDataParallel

from ska_vct.engine.optim import freeze_parameters
from ska_vct.modeling.backbones import SwinBackbone, TimmBackbone
from ska_vct.modeling.layers.checkpoint import compute_again, draws_noise, repeated_blocks

ALL = [f"MODEL.{part}.CHECKPOINT" for part in ("BACKBONE", "PIXEL_DECODER", "DECODER")]
ON = tuple(value for key in ALL for value in (key, True))
SWIN = (
    *("MODEL.BACKBONE.NAME", "build_swin_backbone", "MODEL.SWIN.EMBED_DIM", 16, "MODEL.SWIN.WINDOW_SIZE", 4),
    *("MODEL.SWIN.DEPTHS", [1, 2, 2, 1], "MODEL.SWIN.NUM_HEADS", [1, 2, 4, 8], "MODEL.SWIN.DROP_PATH_RATE", 0.3),
    *("MODEL.PRE_MASK.ENABLED", True, "MODEL.PIXEL_DECODER.DROPOUT", 0.1),
)


def train_once(model, clip, *, autocast=False):
    """Losses, gradients and buffers after one seeded step."""
    torch.manual_seed(3)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        losses = model.train()([clip])
    sum(losses.values()).backward()
    values = dict(losses)
    values |= {f"grad {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return values | {f"buffer {name}": buffer.clone() for name, buffer in model.named_buffers()}


def with_segments(make_clip, **kwargs):
    clip = make_clip(2, **kwargs)
    return clip | {"pre_masks": clip["images"].flip(-1)}


def assert_equal(ours, wanted):
    assert ours.keys() == wanted.keys()
    # The same arithmetic in the same order: equal to the last bit.
    assert [name for name in wanted if not torch.equal(ours[name], wanted[name])] == []


@pytest.mark.parametrize(("overrides", "autocast"), [((), False), (SWIN, False), (SWIN, True)])
def test_gradients_and_averages_are_those_without(tiny, overrides, autocast):
    make_model, make_clip = tiny
    plain, ours = make_model(*overrides), make_model(*overrides, *ON)
    assert list(plain.state_dict()) == list(ours.state_dict())
    ours.load_state_dict(plain.state_dict())
    clip = with_segments(make_clip)
    assert_equal(train_once(ours, clip, autocast=autocast), train_once(plain, clip, autocast=autocast))


def test_distributed_training_and_frozen_parts(tiny, tmp_path):
    make_model, make_clip = tiny
    plain, ours = make_model(), make_model(*ON)
    for model in (plain, ours):
        freeze_parameters(model, ["backbone.network.layer1", "pixel_decoder.layers"])
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = DistributedDataParallel(ours)
        ours_values = {k.replace("module.", ""): v for k, v in train_once(wrapped, make_clip(2)).items()}
    finally:
        torch.distributed.destroy_process_group()
    assert_equal(ours_values, train_once(plain, make_clip(2)))


def saved_bytes(function):
    """What autograd keeps for the backward pass of ``function()``, each storage once."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        result = function()
    del result
    return sum(storages.values())


@pytest.mark.parametrize("name", ["resnet10t", "pvt_v2_b0", "convnext_atto"])
def test_blocks_of_timm_networks_keep_their_inputs_only(name):
    images = torch.randn(1, 3, 64, 64)
    plain, ours = TimmBackbone(name=name), TimmBackbone(name=name, checkpoint=True)
    weights = sum(p.nbytes for p in plain.parameters())
    kept, wanted = (saved_bytes(lambda network=network: network.train()(images)) for network in (ours, plain))
    assert kept - min(weights, kept) < 0.6 * wanted
    assert len(repeated_blocks(ours.network)) >= 4


def test_a_network_without_blocks_is_refused():
    with pytest.raises(ValueError, match="MODEL.BACKBONE.CHECKPOINT"):
        TimmBackbone(name="vgg11_bn", checkpoint=True, out_indices=(2, 3, 4, 5))


def swin(**kwargs):
    torch.manual_seed(0)
    return SwinBackbone(embed_dim=8, depths=[2, 1, 1, 1], num_heads=[1, 2, 4, 8], window_size=4, **kwargs)


def test_a_block_is_computed_again_in_training_alone():
    network = swin(checkpoint=True)
    calls = []
    network.network.layers[0].blocks[0].norm1.register_forward_hook(lambda *_: calls.append(1))
    for training, wanted in ((True, 2), (False, 1)):
        calls.clear()
        network.train(training)(torch.randn(1, 3, 32, 32))["res5"].sum().backward()
        assert len(calls) == wanted


def test_a_second_picture_before_the_backward_pass_changes_nothing():
    plain, ours = swin(drop_path_rate=0.0), swin(drop_path_rate=0.0, checkpoint=True)
    small, large = torch.randn(1, 3, 32, 32), torch.randn(1, 3, 64, 96)
    for network in (plain, ours):
        features = [network.train()(images)["res5"].square().sum() for images in (small, large)]
        sum(features).backward()
    for (name, a), b in zip(plain.named_parameters(), ours.parameters(), strict=True):
        assert torch.equal(a.grad, b.grad) if a.grad is not None else b.grad is None, name


def test_random_states_are_kept_where_there_is_noise_only():
    noisy, quiet = swin(drop_path_rate=0.2), swin(drop_path_rate=0.0)
    assert draws_noise(noisy) and not draws_noise(quiet)


def test_a_copy_is_checkpointed_too():
    network = copy.deepcopy(swin(checkpoint=True))
    assert network.network.layers[0].blocks[0] is not None
    assert saved_bytes(lambda: network.train()(torch.randn(1, 3, 32, 32))) < saved_bytes(
        lambda: swin().train()(torch.randn(1, 3, 32, 32))
    )


@pytest.mark.parametrize("overrides", [SWIN, ()])
@pytest.mark.parametrize("checkpoint", [False, True])
def test_frozen_backbones_and_sound_keep_nothing(tiny, overrides, checkpoint):
    make_model, make_clip = tiny
    model = make_model(*overrides, "MODEL.BACKBONE.CHECKPOINT", checkpoint).train()
    freeze_parameters(model, ["backbone.", "audio_encoder."])
    clip = make_clip(2)
    images = clip["images"].float()
    assert saved_bytes(lambda: model.backbone(images)) == 0
    assert saved_bytes(lambda: model.audio_encoder(clip["log_mel"])) == 0
    # The counter does count.
    assert saved_bytes(lambda: model.pixel_decoder(model.backbone(images))) > 0


def test_cheap_steps_before_a_linear_layer_are_computed_again_and_the_layer_is_not():
    torch.manual_seed(0)
    block = torch.nn.Sequential(torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, 4))
    x = torch.randn(5, 8, requires_grad=True)
    calls = []
    for part in block:
        part.register_forward_hook(lambda module, *_: calls.append(type(module).__name__))
    wanted = torch.autograd.grad(block(x).square().sum(), [x, *block.parameters()])
    calls.clear()
    found = torch.autograd.grad(compute_again(block, block, x).square().sum(), [x, *block.parameters()])
    # The second time the linear layer stops as soon as its input is there, before its hook.
    assert calls == ["LayerNorm", "GELU", "Linear", "LayerNorm", "GELU"]
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    assert saved_bytes(lambda: compute_again(block, block, x)) < saved_bytes(lambda: block(x))


def test_swin_keeps_about_half_of_what_its_blocks_make():
    ours, plain = swin(), swin()
    for block in (block for layer in plain.network.layers for block in layer.blocks):
        block.__class__ = SwinTransformerBlock
    images = torch.randn(2, 3, 64, 64)
    kept, all_of_it = (saved_bytes(lambda network=network: network.train()(images)) for network in (ours, plain))
    weights = sum(p.nbytes for p in ours.parameters())
    assert kept - weights < 0.6 * (all_of_it - weights)
