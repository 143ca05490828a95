"""Logits side by side: known differences."""

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.agreement import agreement


def logits(*values):
    """Logits (1, 1, 1, W) of one object."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def test_equal_logits_agree():
    row = agreement({3: logits(1, -1, 2)}, {3: logits(1, -1, 2)}).iloc[0]
    assert row[["frame", "largest", "mean", "mask_iou", "turned"]].tolist() == [3, 0, 0, 1, 0]


def test_differences_and_turned_pixels_are_counted():
    row = agreement({0: logits(1, -1, 2, -3)}, {0: logits(1, 1, 2, -3)}).iloc[0]
    assert row[["largest", "mean"]].tolist() == [2, 0.5]
    assert row["mask_iou"] == pytest.approx(2 / 3) and row["turned"] == 0.25


def test_masks_that_both_show_nothing_agree():
    assert agreement({0: logits(-1, -2)}, {0: logits(-2, -1)})["mask_iou"].item() == 1


def test_other_frames_are_refused():
    with pytest.raises(RDSInputError, match=r"logits of frames \[0\] and of frames \[1\]"):
        agreement({0: logits(1)}, {1: logits(1)})
