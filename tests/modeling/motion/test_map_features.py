"""The map marks mask features and keys; off it changes nothing; its vectors train in every mode."""

import pytest
import torch

from ska_vct.modeling import MotionPrompt
from ska_vct.modeling.motion.map_features import MapFeatures


def test_it_adds_the_vector_where_the_map_is():
    module = MapFeatures(dim=4, mask_dim=3, num_scales=2)
    with torch.no_grad():
        module.mask_vector.copy_(torch.tensor([1.0, 2.0, 3.0]))
        module.key_vectors[1].fill_(5.0)
    motion_map = torch.zeros(1, 1, 2, 2)
    motion_map[..., 0, 1] = 1
    prompt = MotionPrompt(motion_map=motion_map, retrieved=torch.zeros(1, 4))
    features, scales = torch.randn(1, 3, 2, 2), [torch.randn(1, 4, 2, 2) for _ in range(3)]
    marked, keys = module(prompt, features, scales)
    added = marked - features
    torch.testing.assert_close(added[0, :, 0, 1], torch.tensor([1.0, 2.0, 3.0]))
    assert added[0, :, 1].abs().max() < 1e-6 and keys[0].eq(0).all() and keys[2] is None
    assert keys[1][0, :, 0, 1].tolist() == [5.0] * 4 and keys[1][0, :, 1, 0].tolist() == [0.0] * 4


@pytest.mark.parametrize(("layers", "scales"), [(1, 0), (2, 1), (4, 3), (9, 3)])
def test_no_vector_is_left_unread(tiny, layers, scales):
    make_model, make_clip = tiny
    model = make_model("MODEL.SKA.MAP_AS_FEATURE", True, "MODEL.DECODER.NUM_LAYERS", layers)
    clips = [make_clip(2), make_clip(3, seed=1)]
    vectors = model.map_features.key_vectors
    assert (0 if vectors is None else len(vectors)) == scales
    sum(model.train()(clips).values()).backward()
    assert [name for name, p in model.map_features.named_parameters() if p.grad is None] == []
    assert model.map_features.mask_vector.grad.abs().max() > 0


def test_it_starts_as_the_model_without_and_old_checkpoints_fit(tiny):
    make_model, make_clip = tiny
    without, with_map = (make_model("MODEL.SKA.MAP_AS_FEATURE", on) for on in (False, True))
    clips = [make_clip(2), make_clip(3, seed=1)]
    missing, unexpected = with_map.load_state_dict(without.state_dict(), strict=False)
    assert {name.split(".")[0] for name in missing} == {"map_features"} and unexpected == []
    with torch.no_grad():
        for a, b in zip(without.eval()(clips), with_map.eval()(clips), strict=True):
            assert torch.equal(a["sem_seg"], b["sem_seg"])
