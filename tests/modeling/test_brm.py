"""BRM's targets: which pixels are borders, and that thin ones survive."""

import torch

from ska_vct.modeling.brm import BRM, boundary_target

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
