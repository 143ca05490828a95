"""The ledger of claims and the evaluation's comparisons print one interval for one effect."""

import numpy as np
import pandas as pd
import pytest

from rds_lib.core.artifacts import read_table, write_table
from rds_lib.evaluation.names import ADAPTERS
from rds_lib.evaluation.scores import Scores
from rds_lib.evaluation.tables import compare_arms, objects_table
from rds_lib.pipeline.params import load_params
from rds_lib.report.claims import the_claims
from rds_lib.report.evidence import Evidence, difference
from rds_lib.report.verdicts import judge

SHARED = {  # claim -> RDS's level, and what it is compared with
    "quality": (0.6, "SAM2"),
    "plan A": (0.4, "plan A"),
    "plan B": (0.4, "plan B"),
    "static": (0.4, "static top-n"),
    "random": (0.4, "random routes"),
    "frames": (0.4, "own mean w"),
    "pbd": (0.4, "PBD"),
    "adapters": (0.6, ADAPTERS["none"]),
    "one for all": (0.6, "RDS, one for all"),
    **{f"placement, {kind}": (0.6, label) for kind, label in ADAPTERS.items() if kind != "none"},
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Both tables, from random scores of 18 sequences whose names are not in order; claims from what was written."""
    rng, folder, section = np.random.default_rng(0), tmp_path_factory.mktemp("pages"), load_params("mini").evaluation
    names = [f"s{n}" for n in rng.permutation(18)]
    rivals = [other for _, other in SHARED.values() if other != "SAM2"]
    keys = [("SAM2", 1.0), *((method, level) for level in (0.6, 0.4) for method in ("RDS", *rivals))]

    def scores():
        rows = [(name, obj, rng.random()) for name in names for obj in range(1, 1 + len(name))]
        return Scores(pd.DataFrame(rows, columns=["sequence", "object", "JF"]), pd.DataFrame(), 1.0, 1)

    objects = objects_table({"set": {key: scores() for key in keys}})
    write_table(folder / "objects.csv", objects)
    comparisons = compare_arms(objects, seed=section.seed, n=section.bootstrap)
    evidence = Evidence.of_dataset(
        "set",
        section,
        scores=pd.DataFrame(columns=["dataset", "method", "level", "active_blocks_routed", "gmacs"]),
        objects=read_table(folder / "objects.csv"),
        routes=pd.DataFrame({"dataset": [], "reason": [], "level": []}),
        importance=pd.DataFrame({"block": [], "always_on": []}),
        speed=pd.DataFrame({"method": [], "level": []}),
        frames=pd.DataFrame(),
    )
    return comparisons.drop(columns="dataset").set_index(["level", "against"]), evidence


def test_claims_and_comparisons_agree_on_every_pair_that_both_print(pages):
    comparisons, evidence = pages
    wanted = {key: claim for key, claim in ((claim.key, claim) for claim in the_claims()) if key in SHARED}
    assert wanted.keys() == SHARED.keys()
    ledger = judge(wanted.values(), evidence).set_index("key")
    for key, pair in SHARED.items():
        assert ledger.loc[key, ["effect", "ci_low", "ci_high"]].tolist() == comparisons.loc[pair].tolist(), key
        assert ledger.loc[key, "ci_low"] < ledger.loc[key, "effect"] < ledger.loc[key, "ci_high"]


def test_any_other_pair_would_agree_too(pages):
    comparisons, evidence = pages
    for (level, other), row in comparisons.iterrows():
        found = difference("RDS", level, other, 1.0 if other == "SAM2" else level)(evidence)
        assert tuple(np.round(found, 3)) == tuple(row), (level, other)
