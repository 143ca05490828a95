"""Table, sentence, page and ledger row of a headroom measurement follow from what was measured, made up here."""

import json

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.artifacts import read_json, write_json
from rds_lib.evaluation.headroom import Measured
from rds_lib.evaluation.headroom_names import (
    BETWEEN,
    FIXED,
    FRAME,
    FULL,
    MEAN,
    TOTAL,
    VARIANCE,
    WITHIN,
    WORST,
    interval_of,
)
from rds_lib.evaluation.headroom_table import as_table, summarise
from rds_lib.metrics.variance import COMPONENTS
from rds_lib.report.claims import the_claims
from rds_lib.report.evidence import Evidence
from rds_lib.report.headroom import as_page
from rds_lib.report.verdicts import UNTESTED, judge

ROUTES, VIDEOS, FRAMES = 6, 20, 4


def made_up(*, by_video=0.0, by_frame=0.0, noise=0.02, copies=2, tracker=True):
    """Damage with known effects of videos and frames; IoU falls as damage rises."""
    rng = np.random.default_rng(0)
    shape = (ROUTES, VIDEOS, FRAMES, copies)
    damage = 0.6 + by_video * rng.normal(size=(ROUTES, VIDEOS, 1, 1)) + by_frame * rng.normal(size=(*shape[:3], 1))
    damage = damage + noise * rng.normal(size=shape)
    return Measured(
        videos=np.array([f"video{n}" for n in range(VIDEOS)]),
        frames=np.tile(np.arange(1, FRAMES + 1), (VIDEOS, 1)),
        routes=np.arange(12) < np.full((ROUTES, 1), 5),
        damage=damage,
        iou=1 - damage if tracker else damage[:0],
        full_iou=np.full(shape[1:], 0.9),
        seen=rng.normal(size=(*shape[1:], 3)),
    )


@pytest.fixture(scope="module")
def summary():
    return summarise(made_up(by_video=0.1), n=200, model="mini", data="some videos")


def test_damage_and_iou_say_the_same_of_the_same_effects(summary):
    damage, iou = (
        {name: interval_of(summary, measure, name) for name in (FIXED, WORST, FRAME, BETWEEN, WITHIN)}
        for measure in ("damage", "iou")
    )
    for name in (FIXED, WORST, FRAME):
        assert iou[name].effect == pytest.approx(100 * (1 - damage[name].effect), abs=1e-3)
        assert damage[name].low <= damage[name].effect <= damage[name].high
    for name in (BETWEEN, WITHIN):
        assert iou[name] == pytest.approx([100 * bound for bound in damage[name]], abs=1e-3), (
            "better is above 0 in both"
        )
    assert damage[FIXED].effect < damage[WORST].effect and damage[BETWEEN].low > 0
    assert interval_of(summary, "damage", FULL).effect == 0 and interval_of(summary, "iou", FULL).effect == 90
    with pytest.raises(LookupError, match="JF"):
        interval_of(summary, "JF", FULL)


def test_the_sentence_says_what_is_won_and_where_nothing_is(summary):
    iou, damage = summary["sentence"].split("; ")
    assert iou.startswith("With 5 of 12 blocks, on mini and these 20 videos, a router that chooses among 6 routes")
    won = interval_of(summary, "damage", BETWEEN).effect
    assert damage.startswith(f"{won:.3f} of damage (+") and "IoU points (+" in iou
    assert "nothing measurable in damage" in damage and damage.endswith("within them.")
    both = summarise(made_up(by_video=0.2, by_frame=0.1), n=200)["sentence"]
    assert "nothing" not in both and "this model" in both
    assert summarise(made_up(), n=200)["sentence"].count("nothing") == 4


def test_without_a_mirrored_copy_or_a_tracker_the_rest_is_there():
    alone = summarise(made_up(by_video=0.1, copies=1, tracker=False), n=50)
    assert list(alone["measures"]) == ["damage"] and not alone["mirrored"]
    assert "an unknown amount" in alone["sentence"] and TOTAL not in alone["measures"]["damage"]
    page = as_page(alone)
    assert "mirror image beside" not in page and "chosen on its mirror image" not in page and "IoU points" not in page


def test_the_page_shows_every_quantity_with_its_interval(summary):
    page = as_page(summary)
    assert (
        summary["sentence"] in page and "6 random routes of 5 of 12 blocks; model mini; 20 videos (some videos)" in page
    )
    rows = {cells[1].strip(): cells[2:4] for cells in (line.split("|") for line in page.splitlines()) if len(cells) > 3}
    value, low, high = interval_of(summary, "damage", MEAN)
    assert rows["mean over the routes"][0].strip() == f"{value:.3f} ({low:.3f} to {high:.3f})"
    shares = [
        float(cells[0].split(", ")[1].split(" %")[0]) for name, cells in rows.items() if name.startswith("variance")
    ]
    assert len(shares) == len(COMPONENTS) and sum(shares) == pytest.approx(100, abs=0.3)
    assert len(as_table(summary)) == 2 * (len(rows) - 2), "all but the head"


def test_a_summary_survives_its_file(tmp_path, summary):
    write_json(tmp_path / "headroom.json", summary)
    assert read_json(tmp_path / "headroom.json") == json.loads(json.dumps(summary))


def test_the_table_holds_values_units_and_bounds(summary):
    table = as_table(summary).set_index(["measure", "quantity"])
    assert tuple(table.loc[("iou", TOTAL), ["value", "ci_low", "ci_high"]]) == interval_of(summary, "iou", TOTAL)
    assert table.loc[("iou", TOTAL), "unit"] == "IoU points"
    assert table.loc[("iou", VARIANCE + COMPONENTS[0]), "unit"] == "(IoU points)^2"


def test_the_ledger_has_the_whole_gain_and_tells_its_two_parts(summary):
    def evidence(measured):
        return Evidence(*[pd.DataFrame()] * 4, headroom=measured)

    (claim,) = [claim for claim in the_claims() if claim.key == "headroom"]
    row = judge([claim], evidence(summary)).iloc[0]
    assert tuple(row[["effect", "ci_low", "ci_high"]]) == pytest.approx(interval_of(summary, "iou", TOTAL), abs=1e-3)
    between, within = (interval_of(summary, "iou", name) for name in (BETWEEN, WITHIN))
    assert "6 random routes of 5 blocks, 20 videos" in row["rests_on"]
    for name, part in {"between": between, "within": within}.items():
        assert f"{name} videos {part.effect:+.1f} (" in row["rests_on"]
    for absent in (None, summarise(made_up(copies=1), n=20)):
        assert judge([claim], evidence(absent)).iloc[0]["verdict"] == UNTESTED
