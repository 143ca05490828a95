"""The tables that stage `evaluation` writes.

``results`` is what `evaluate_arms` gives: data set -> (method, level) -> Scores.
"""

from collections.abc import Callable, Mapping

import pandas as pd

from rds_lib.evaluation.names import RDS
from rds_lib.metrics.boxes import summarise_boxes
from rds_lib.metrics.statistics import bootstrap_ci, difference


def stack(results: dict, pick: Callable) -> pd.DataFrame:
    """One table of what ``pick`` takes from each arm's scores, with columns ``dataset``, ``method`` and ``level``."""
    return pd.concat(
        [
            pick(scores).assign(dataset=dataset, method=method, level=level)
            for dataset, arms in results.items()
            for (method, level), scores in arms.items()
        ],
        ignore_index=True,
    )


def objects_table(results: dict) -> pd.DataFrame:
    """Every object's score under every arm, rounded as ``objects.csv`` holds it: what comparisons are made from."""
    return stack(results, lambda scores: scores.objects).round(5)


def score_table(
    results: dict, *, seed: int, n: int, trained: Mapping[tuple[str, float], int] | None = None
) -> pd.DataFrame:
    """One row per data set, method and level: headline value in points, interval, active blocks, GMACs.

    ``params_trained`` is what ``trained`` has for a method and level.
    """
    rows = []
    for dataset, arms in results.items():
        for (method, level), scores in arms.items():
            objects = scores.objects
            metric = "G" if "G" in objects.attrs["summary"] else "JF"
            low, high = bootstrap_ci(
                100 * objects["JF"].to_numpy(), seed=seed, n=n, groups=objects["sequence"].to_numpy()
            )
            rows.append(
                {
                    "dataset": dataset,
                    "method": method,
                    "level": level,
                    "metric": metric,
                    "value": 100 * objects.attrs["summary"][metric],
                    "ci_low": low,
                    "ci_high": high,
                    "active_blocks": scores.active,
                    "gmacs": scores.gmacs,
                    "sequences": objects["sequence"].nunique(),
                    "objects": len(objects),
                    "params_trained": (trained or {}).get((method, level)),
                }
            )
    return pd.DataFrame(rows).round(4).astype({"params_trained": "Int64"})


def box_scores(results: dict) -> pd.DataFrame:
    """One row per DAVIS-shaped data set, method and level: LaSOT's and GOT-10k's scores of the masks' boxes, in %."""
    rows = [
        {"dataset": dataset, "method": method, "level": level}
        | {name: 100 * value for name, value in summarise_boxes(scores.boxes).items()}
        for dataset, arms in results.items()
        for (method, level), scores in arms.items()
        if len(scores.boxes)
    ]
    return pd.DataFrame(rows).round(2)


def compare_arms(objects: pd.DataFrame, *, seed: int, n: int) -> pd.DataFrame:
    """RDS minus every other arm at its level, and minus the whole models, paired object by object.

    ``objects`` is what `objects_table` gives. The order of its arms is the order of the rows and changes no number.
    """
    rows = []
    for dataset, own in objects.groupby("dataset", sort=False):
        arms = list(own[["method", "level"]].drop_duplicates().itertuples(index=False, name=None))
        for level in [level for method, level in arms if method == RDS]:
            for other, other_level in arms:
                if other != RDS and other_level in (level, 1.0):
                    found = difference(own, (RDS, level), (other, other_level), seed=seed, n=n)
                    rows.append(
                        {
                            "dataset": dataset,
                            "level": level,
                            "against": other,
                            "effect": found.effect,
                            "ci_low": found.low,
                            "ci_high": found.high,
                        }
                    )
    return pd.DataFrame(rows).round(3)
