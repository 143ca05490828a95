"""Tracking one video: what can be prompted, before anything is tracked."""

import pytest

from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline.track import first_prompts, track_video


def test_more_objects_than_a_palette_holds_are_refused():
    assert list(first_prompts((9, 9), click=[(1, 1)] * 254))[-1] == 254
    for prompt in ({"click": [(1, 1)] * 255}, {"box": [(0, 0, 2, 2)] * 300}):
        with pytest.raises(RDSInputError, match="object id 255; a palette PNG takes whole numbers from 1 to 254"):
            first_prompts((9, 9), **prompt)


@pytest.mark.parametrize("obj_id", [0, 255, -1, "cow", True])
def test_object_ids_that_a_palette_cannot_hold_are_refused_before_tracking(tmp_path, obj_id):
    with pytest.raises(RDSInputError, match=f"prompts: object id {obj_id!r}"):
        track_video(None, tmp_path / "absent", {obj_id: {"points": [[1, 1]], "labels": [1]}}, tmp_path / "out")
    assert not (tmp_path / "out").exists()
