"""The tables that stage `evaluation` writes.

``results`` is what `evaluate_arms` gives: data set -> (method, level) -> Scores. ``repeated`` has the same by seed, for
arms that were trained more than once.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.names import RDS
from rds_lib.metrics.boxes import summarise_boxes
from rds_lib.metrics.statistics import difference, interval_of

WORK = {
    "active_blocks": "active",
    "active_blocks_routed": "active_routed",
    "gmacs": "gmacs",
    "gmacs_routed": "gmacs_routed",
}


def with_truth(results: dict) -> dict:
    """The data sets of ``results`` whose ground truth is here; of the others there are masks, for their servers.

    Raises
    ------
    RDSInputError
        If no data set has any.
    """
    found = {name: arms for name, arms in results.items() if any(scores.has_truth for scores in arms.values())}
    if not found:
        raise RDSInputError(
            f"{', '.join(results)}: no ground truth but the prompts, so nothing can be scored; the masks are written. "
            "Add a data set with ground truth to evaluation.datasets"
        )
    return found


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


def objects_table(results: dict, repeated: Mapping[int, dict] | None = None, *, first: int = 0) -> pd.DataFrame:
    """Every object's score under every arm, rounded as ``objects.csv`` holds it: what comparisons are made from.

    With ``repeated``, a column ``seed``: ``first`` for the arms of ``results`` that were repeated, empty for others.
    """
    own = stack(results, lambda scores: scores.objects).round(5)
    if not repeated:
        return own
    key = ["dataset", "method", "level"]
    others = [
        stack(again, lambda scores: scores.objects).round(5).assign(seed=seed) for seed, again in repeated.items()
    ]
    is_repeated = own.set_index(key).index.isin(pd.concat(others).set_index(key).index)
    own["seed"] = pd.array(np.where(is_repeated, first, None), dtype="Int64")
    return pd.concat([own, *others], ignore_index=True)


def score_table(
    results: dict,
    repeated: Mapping[int, dict] | None = None,
    *,
    seed: int,
    n: int,
    trained: Mapping[tuple[str, float], int] | None = None,
) -> pd.DataFrame:
    """One row per data set, method and level: headline value in points with its interval, and the work it took.

    ``active_blocks`` and ``gmacs`` are means over all frames, ``active_blocks_routed`` and ``gmacs_routed`` over the
    routed ones. ``params_trained`` is what ``trained`` has for a method and level. All are means over ``trainings``.
    """
    rows = []
    for dataset, arms in results.items():
        for (method, level), scores in arms.items():
            again = [own[dataset] for own in (repeated or {}).values() if dataset in own]
            found = [scores, *(own[method, level] for own in again if (method, level) in own)]
            objects = scores.objects
            metric = "G" if "G" in objects.attrs["summary"] else "JF"
            _, low, high = _interval([each.objects for each in found], metric, seed, n)
            rows.append(
                {
                    "dataset": dataset,
                    "method": method,
                    "level": level,
                    "metric": metric,
                    "value": 100 * np.mean([each.objects.attrs["summary"][metric] for each in found]),
                    "ci_low": low,
                    "ci_high": high,
                    **{name: np.mean([getattr(each, own) for each in found]) for name, own in WORK.items()},
                    "sequences": objects["sequence"].nunique(),
                    "objects": len(objects),
                    "trainings": len(found),
                    "params_trained": (trained or {}).get((method, level)),
                }
            )
    return pd.DataFrame(rows).round(4).astype({"params_trained": "Int64"})


def _interval(tables, metric, seed, n):
    """The interval of a headline, over sequences and, for J&F, over trainings."""
    parts = [_headline_parts(table, metric) for table in tables]
    if len(parts) == 1 or metric == "G":
        return interval_of(*np.mean(parts, axis=0), seed=seed, n=n)
    sums, counts = (np.concatenate(each, axis=1) for each in zip(*parts))
    return interval_of(sums, counts, seed=seed, n=n, trainings=True)


def _headline_parts(objects: pd.DataFrame, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Sums in points and counts of objects, each (sequences, groups): what a headline is the mean of.

    J&F has one group of objects; G has J and F of the seen ones and of the unseen, as `summarise` takes its mean.
    """
    rows = objects.dropna(subset="JF").sort_values("sequence", kind="stable")
    is_seen = rows["seen"].to_numpy(bool) if metric == "G" else None
    names = (("J", is_seen), ("F", is_seen), ("J", ~is_seen), ("F", ~is_seen)) if metric == "G" else (("JF", True),)
    values = np.stack([100 * rows[name].to_numpy() * group for name, group in names], 1)
    counted = np.stack([np.ones(len(rows)) * group for _, group in names], 1)
    sequence = pd.factorize(rows["sequence"])[0]
    sums, counts = np.zeros((2, sequence.max() + 1, len(names)))
    np.add.at(sums, sequence, values)
    np.add.at(counts, sequence, counted)
    return sums, counts


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
