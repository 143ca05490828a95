"""Scores on disk: every number, text and missing value comes back as it was."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.kept_scores import folder_name, kept_scores, read_scores, write_scores
from rds_lib.evaluation.scores import Scores


@pytest.fixture
def scores():
    objects = pd.DataFrame(
        {
            "sequence": ["007", "été", "007"],
            "object": [1, 2, 2**60],
            "JF": [1 / 3, np.nan, 100.0],
            "J": [0.1, 5e-324, 2],
        }
    )
    objects.attrs["summary"] = {"JF": 0.1 + 0.2, "J": float("nan")}
    routes = pd.DataFrame(
        {"frame_idx": [0, 1], "active": [True, False], "keep_prob": np.float32([0.1, 0.7]), "reason": ["routed", None]}
    )
    boxes = pd.DataFrame({"object": pd.Series(["000", "001"], dtype=object), "AO": [0.5, 1.0]})
    empty = pd.DataFrame(columns=["sequence", "object", "JF"])
    first = Scores(objects, routes, 1 / 7, 12, boxes, gmacs=np.pi, faults={"007": "cut"})
    return [first, Scores(empty, pd.DataFrame(), 0.0, 0)]


def test_scores_come_back_as_they_were(scores, tmp_path):
    write_scores(tmp_path / "scores.npz", scores)
    for before, after in zip(scores, read_scores(tmp_path / "scores.npz"), strict=True):
        for name in ("objects", "routes", "boxes"):
            pd.testing.assert_frame_equal(getattr(before, name), getattr(after, name), check_exact=True)
        assert repr(before.objects.attrs) == repr(after.objects.attrs)
        for name in ("seconds", "frames", "gmacs", "gmacs_routed", "faults"):
            assert repr(getattr(before, name)) == repr(getattr(after, name))


def test_equal_scores_are_equal_bytes(scores, tmp_path):
    for name in ("a", "b"):
        write_scores(tmp_path / name, scores)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_is_neither_number_nor_text_is_refused(scores, tmp_path):
    scores[0].objects["mixed"] = pd.Series([1, "a", None], dtype=object)
    with pytest.raises(TypeError, match="mixed"):
        write_scores(tmp_path / "scores.npz", scores)
    assert not list(tmp_path.iterdir())


def test_another_file_is_named(tmp_path):
    np.savez(tmp_path / "scores.npz", schema=1, notes=np.array("{"))
    with pytest.raises(RDSInputError, match=r"scores\.npz: no scores of ours"):
        read_scores(tmp_path / "scores.npz")


def test_scores_are_made_once(scores, tmp_path):
    made = []
    for _ in range(2):
        found = kept_scores(tmp_path / "arm", lambda: made.append(1) or scores)
        pd.testing.assert_frame_equal(found[0].objects, scores[0].objects)
    assert made == [1]


def test_every_name_has_a_folder_of_its_own():
    names = ["RDS 0.4", "RDS_0.4", "RDS, one for all 0.4", "configs/sam2.1/sam2.1_hiera_b+.yaml", "..", "é" * 300]
    found = [folder_name(name) for name in names]
    assert len(set(found)) == len(names) and all("/" not in name and 0 < len(name) < 80 for name in found)
    assert not any(name.startswith(".") for name in found)
