"""The map marks mask features and keys; off it changes nothing; its vectors train in every mode."""

import pytest
import torch

from ska_vct.modeling import MotionPrompt
from ska_vct.modeling.motion.map_features import MapFeatures, widen


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


RADII = ("MODEL.SKA.MAP_RADII", [0.1, 0.3])


@pytest.mark.parametrize(
    ("less", "more", "new"),
    [
        ((), (), {"map_features.mask_vector", "map_features.key_vectors"}),
        (("MODEL.SKA.MAP_AS_FEATURE", True), RADII, {"map_features.wide_vectors"}),
    ],
)
def test_it_starts_as_the_model_without_and_old_checkpoints_fit(tiny, less, more, new):
    make_model, make_clip = tiny
    without, with_map = make_model(*less), make_model("MODEL.SKA.MAP_AS_FEATURE", True, *more)
    clips = [make_clip(2), make_clip(3, seed=1)]
    missing, unexpected = with_map.load_state_dict(without.state_dict(), strict=False)
    assert set(missing) == new and unexpected == []
    with torch.no_grad():
        for a, b in zip(without.eval()(clips), with_map.eval()(clips), strict=True):
            assert torch.equal(a["sem_seg"], b["sem_seg"])


def test_a_wide_map_reaches_its_radii_and_no_farther():
    motion_map = torch.zeros(1, 1, 24, 24)
    motion_map[0, 0, 12, 12] = 1
    wide = widen(motion_map, 2 / 24)[0, 0]
    inside = torch.zeros(24, 24, dtype=torch.bool)
    inside[8:17, 8:17] = True
    assert torch.equal(wide > 0, inside) and wide[12, 12] == 1 and wide[8, 8] == pytest.approx(1 / 25)
    # A constant map stays what it is, at the border too; a radius below one cell is one cell.
    torch.testing.assert_close(widen(torch.full((1, 1, 6, 9), 0.5), 0.3), torch.full((1, 1, 6, 9), 0.5))
    assert (widen(motion_map, 0.01)[0, 0] > 0).sum() == 25


def test_wide_copies_tell_what_is_near_the_map_from_what_is_not():
    module = MapFeatures(dim=4, mask_dim=2, num_scales=0, radii=[0.25])
    with torch.no_grad():
        module.wide_vectors.copy_(torch.tensor([[1.0, -2.0]]))
    motion_map = torch.zeros(1, 1, 8, 8)
    motion_map[..., 0, 0] = 1
    prompt = MotionPrompt(motion_map=motion_map, retrieved=torch.zeros(1, 4))
    features = torch.zeros(1, 2, 8, 8)
    added, _ = module(prompt, features, [])
    assert (
        added[0, 0, 2, 2] > 0 and added[0, 1, 2, 2] == -2 * added[0, 0, 2, 2] and added[0, :, 5:, 5:].eq(0).all()
    )


def test_vectors_of_wide_copies_train(tiny):
    make_model, make_clip = tiny
    model = make_model("MODEL.SKA.MAP_AS_FEATURE", True, *RADII)
    sum(model.train()([make_clip(2), make_clip(3, seed=1)]).values()).backward()
    assert model.map_features.wide_vectors.grad.abs().amax(1).min() > 0
