"""The rule for another batch, and what a run says about its own."""

import math

import pytest

from ska_vct.engine.recipe import batch_note, scaled_lr


def test_the_rule_gives_the_authors_figures():
    # SKA-VCT's authors: 2 -> 1e-4, 4 -> 1.4e-4, 8 -> 2e-4, 16 -> 2.8e-4.
    found = [scaled_lr(1e-4, 2, batch) for batch in (2, 4, 8, 16)]
    assert [round(lr, 5) for lr in found] == [1e-4, 1.4e-4, 2e-4, 2.8e-4]
    assert math.isclose(scaled_lr(scaled_lr(1e-4, 2, 8), 8, 2), 1e-4)
    with pytest.raises(ValueError, match="at least one clip, got 2 and 0"):
        scaled_lr(1e-4, 2, 0)


def test_a_run_says_when_its_batch_is_not_the_files(tiny_cfg):
    tiny_cfg.SOLVER.BASE_LR = 1e-4
    run = tiny_cfg.clone()
    assert batch_note(run, tiny_cfg) == ""
    run.SOLVER.IMS_PER_BATCH = 8
    note = batch_note(run, tiny_cfg)
    assert "in the config file 2 with SOLVER.BASE_LR 0.0001" in note and "add SOLVER.BASE_LR 0.0002" in note
    run.SOLVER.BASE_LR = 2e-4
    assert batch_note(run, tiny_cfg).endswith("which is what this run uses.")
