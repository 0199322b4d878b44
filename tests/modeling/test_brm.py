"""BRM's targets: which pixels are borders, and that thin ones survive; its variants."""

import pytest
import torch

from ska_vct.config import get_cfg
from ska_vct.modeling.brm import BRM, above_average, boundary_target, build_brm

IGNORE = 255


def test_a_single_pixel_object_survives_shrinking():
    labels = torch.zeros(1, 32, 32, dtype=torch.int64)
    labels[0, 13, 21] = 1
    target, valid = boundary_target(labels, IGNORE, (8, 8))
    # The 3x3 neighbourhood (rows 12-14, columns 20-22) lies in cell row 3, column 5.
    assert target.nonzero().tolist() == [[0, 3, 5]] and valid.all()


def test_borders_between_classes_count_and_borders_with_ignored_pixels_do_not():
    labels = torch.tensor([[[1, 1, 1, 2, 2, 255, 255]]]).expand(1, 4, 7).clone()
    target, valid = boundary_target(labels, IGNORE, (4, 7))
    assert target[0, 0].tolist() == [0, 0, 1, 1, 0, 0, 0]
    assert valid[0, 0].tolist() == [1, 1, 1, 1, 1, 0, 0]


def test_gradient_equals_dilation_minus_erosion_of_an_independent_oracle():
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    mask = (cv2.GaussianBlur(rng.random((40, 50)).astype(np.float32), (0, 0), 3) > 0.5).astype(np.uint8)
    kernel = np.ones((3, 3), np.uint8)
    wanted = cv2.dilate(mask, kernel) - cv2.erode(mask, kernel)
    target, _ = boundary_target(torch.from_numpy(mask.astype(np.int64))[None], IGNORE, mask.shape)
    assert np.array_equal(target[0].numpy(), wanted)


def test_cells_without_ground_truth_carry_no_loss():
    torch.manual_seed(0)
    brm = BRM(mask_dim=8, dim=8, pos_weight=5.0)
    labels = torch.zeros(2, 16, 16, dtype=torch.int64)
    labels[0, 4:9, 4:9] = 1
    labels[1] = IGNORE
    logits = brm(torch.randn(2, 8, 4, 4)).detach().requires_grad_()
    brm.loss(logits, labels, IGNORE).backward()
    assert logits.grad[0].abs().min() > 0 and logits.grad[1].eq(0).all()
    nothing = brm.loss(logits, torch.full_like(labels, IGNORE), IGNORE)
    assert nothing.item() == 0 and nothing.isfinite()


def test_loss_by_hand():
    brm = BRM(mask_dim=8, dim=8, pos_weight=5.0)
    labels = torch.tensor([[[0, 1, 1, 1]]])
    # Borders at columns 0 and 1. Logit 0 costs ln 2, five times on a border: (5 + 5 + 1 + 1) / 4 ln 2.
    loss = brm.loss(torch.zeros(1, 1, 4), labels, IGNORE)
    assert torch.allclose(loss, 3 * torch.log(torch.tensor(2.0)))


def test_above_average_is_the_cell_less_its_neighbourhood():
    x = torch.randn(1, 2, 7, 9, dtype=torch.float64)
    wanted = torch.empty_like(x)
    for row in range(7):
        for column in range(9):
            around = x[..., max(row - 2, 0) : row + 3, max(column - 2, 0) : column + 3]
            wanted[..., row, column] = x[..., row, column] - around.mean((-2, -1))
    torch.testing.assert_close(above_average(x), wanted)


def test_with_high_frequency_what_is_even_is_not_seen():
    torch.manual_seed(0)
    whole, high = (
        BRM(mask_dim=8, dim=8, pos_weight=5.0, high_frequency=value).double().eval() for value in (False, True)
    )
    high.load_state_dict(whole.state_dict())
    features = torch.randn(1, 8, 12, 12, dtype=torch.float64)
    brighter = features + torch.randn(1, 8, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(high(features), high(brighter))
    assert not torch.allclose(whole(features), whole(brighter))


def make_fusion(weight):
    """A head that sees a contour in every cell: probability 1 / 2."""
    brm = BRM(mask_dim=8, dim=8, pos_weight=5.0, fusion=weight).eval()
    torch.nn.init.zeros_(brm.head[3].weight)
    torch.nn.init.zeros_(brm.head[3].bias)
    return brm


def test_fusion_by_hand():
    masks = torch.zeros(1, 1, 5, 5)
    masks[0, 0, 2, 2] = 5.0
    # The average around the middle is 5 / 25; 5 + 2 * 1 / 2 * (5 - 0.2) = 9.8, its neighbours 0 - 0.3125 or less.
    fused = make_fusion(2.0).sharpen(masks, torch.randn(1, 8, 5, 5))
    assert fused[0, 0, 2, 2].item() == pytest.approx(9.8) and (fused.flatten()[:12] < 0).all()


def test_fusion_changes_neither_even_masks_nor_anything_at_weight_zero():
    masks, features = torch.randn(2, 3, 6, 6), torch.randn(2, 8, 6, 6)
    assert make_fusion(0.0).sharpen(masks, features) is masks
    even = torch.full((2, 3, 6, 6), -1.5)
    # the average of 25 equal numbers, rounded
    torch.testing.assert_close(make_fusion(2.0).sharpen(even, features), even)


def test_without_a_contour_masks_stay():
    brm = make_fusion(2.0)
    torch.nn.init.constant_(brm.head[3].bias, -1000.0)
    masks = torch.randn(1, 3, 6, 6)
    assert torch.equal(brm.sharpen(masks, torch.randn(1, 8, 6, 6)), masks)


def test_fusion_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="must be 0 or more"):
        make_fusion(-1.0)
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.BRM.ENABLED", False, "MODEL.BRM.FUSION", 1.0])
    with pytest.raises(ValueError, match="needs contours"):
        build_brm(cfg)
