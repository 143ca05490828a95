"""The page of a headroom measurement, and its row in the ledger of claims; both from ``headroom.json`` alone."""

from collections.abc import Mapping

import numpy as np

from rds_lib.evaluation.headroom_names import (
    BETWEEN,
    BY_FRAME,
    BY_VIDEO,
    FIXED,
    FIXED_HONEST,
    FRAME,
    FRAME_HONEST,
    FULL,
    MEAN,
    NAIVE_BETWEEN,
    NAIVE_WITHIN,
    TOTAL,
    UNITS,
    VARIANCE,
    VIDEO,
    VIDEO_HONEST,
    WITHIN,
    WORST,
    interval_of,
)
from rds_lib.metrics.statistics import Interval
from rds_lib.metrics.variance import FRAME_NOISE, LASTING_NOISE, ROUTE, ROUTE_FRAME, ROUTE_VIDEO
from rds_lib.report.evidence import Evidence
from rds_lib.report.markdown import table

LEVELS = {
    FULL: "full encoder",
    MEAN: "mean over the routes",
    WORST: "worst fixed route",
    FIXED: "best fixed route",
    FIXED_HONEST: "best fixed route, chosen on the other videos",
    VIDEO: "best route a video, chosen and scored on the same frames",
    VIDEO_HONEST: "best route a video, chosen on other frames",
    FRAME: "best route a frame, chosen and scored on the same frame",
    FRAME_HONEST: "best route a frame, chosen on its mirror image",
}
PARTS = {
    ROUTE: "variance: which route, for all videos alike",
    ROUTE_VIDEO: "variance: route x video",
    ROUTE_FRAME: "variance: route x frame within a video",
    LASTING_NOISE: "variance: noise that lasts through a video",
    FRAME_NOISE: "variance: noise of single frames",
}
GAINS = {
    NAIVE_BETWEEN: "a route a video over the best fixed route, naive",
    BETWEEN: "a route a video over the best fixed route, honest",
    NAIVE_WITHIN: "a route a frame over a route a video, naive",
    WITHIN: "a route a frame over a route a video, honest",
    TOTAL: "a route a frame over the best fixed route, honest",
    BY_VIDEO: "a route a video that a ridge regression picks",
    BY_FRAME: "a route a frame that a ridge regression picks",
}
_TWO_COPIES = (
    ", each as it is and mirrored",
    "a video's on its other frames (odd or even) in the mirrored copy, a frame's on its mirror image beside that. What "
    "the two copies do not share is noise.",
)
_ONE_COPY = (
    "",
    "a video's on its other frames (odd or even). Without a mirrored copy the two variances with `route x` hold the "
    "noise, and what following the frame wins is not known.",
)
_PAGE = """# What a router could win

**{sentence}**

{routes} random routes of {blocks} of {depth} blocks; model {model}; {videos} videos ({data}), {frames} frames of
each{copies}{commit}.

{table}

*Damage* is the relative distance of the feature maps from the full encoder's; *IoU* that of masks tracked under a fixed
route from the first frame's masks. Gains are above 0 where choosing helps, for both. Brackets are 95 % intervals, from
bootstraps over videos; a share is of all variance over routes.

*Naive* choices are scored on the numbers that they were made on, which flatters them. *Honest* ones are scored on
others: a fixed route is chosen on the other videos, {choice}
The ridge regression sees pooled tokens and the last mask (mean, deviation, mean inside the mask, its area and place)
and is scored on videos that it was not fitted to; the honest gains are its ceiling.
"""


def possible_gain(evidence: Evidence) -> Interval:
    """What choosing a route by frame wins over the best fixed one, in IoU points; LookupError where none was measured.

    It takes a mirrored copy of every video.
    """
    return interval_of(_measured(evidence), "iou", TOTAL)


def parts_of_gain(evidence: Evidence) -> str:
    """What was measured, and how the gain is split into its part between and its part within videos."""
    summary = _measured(evidence)
    between, within = (_written(interval_of(summary, "iou", name), "iou", signed=True) for name in (BETWEEN, WITHIN))
    return (
        f"{summary['routes']} random routes of {summary['blocks']} blocks, {summary['videos']} videos, no adapters; "
        f"between videos {between}, within videos {within}"
    )


def _measured(evidence):
    if not evidence.headroom:
        raise LookupError("headroom")
    return evidence.headroom


def as_page(summary: Mapping) -> str:
    """The measurement as Markdown: the sentence, the table with its intervals, and how to read it."""
    measures = list(summary["measures"])
    heads = ["", *(f"{measure}, {UNITS[measure]}" for measure in measures)]
    rows = [[label, *(_cell(summary, measure, name) for measure in measures)] for name, label in LEVELS.items()]
    rows += [[label, *(_share(summary, measure, name) for measure in measures)] for name, label in PARTS.items()]
    rows += [
        [label, *(_cell(summary, measure, name, signed=True) for measure in measures)] for name, label in GAINS.items()
    ]
    copies, choice = _TWO_COPIES if summary["mirrored"] else _ONE_COPY
    return _PAGE.format(
        sentence=summary["sentence"],
        **{name: summary[name] for name in ("routes", "blocks", "depth", "videos", "frames")},
        model=(summary.get("model") or "not named") + _weights(summary.get("weights") or {}),
        data=summary.get("data") or "not named",
        commit=f"; commit {summary['commit']}" if summary.get("commit") else "",
        copies=copies,
        choice=choice,
        table=table(heads, [row for row in rows if any(row[1:])]),
    )


def _weights(found: Mapping) -> str:
    """The weights behind the model's name; older summaries do not hold them."""
    return f" (weights {found['checkpoint']}, SHA-256 {found['sha256']})" if found.get("sha256") else ""


def _cell(summary, measure, quantity, signed=False) -> str:
    try:
        return _written(interval_of(summary, measure, quantity), measure, signed=signed)
    except LookupError:
        return ""


def _share(summary, measure, component) -> str:
    """A variance with its share of all components'; small numbers keep two digits."""
    found = {}
    for name in PARTS:
        try:
            found[name] = interval_of(summary, measure, VARIANCE + name)
        except LookupError:
            continue
    if component not in found:
        return ""
    total, (value, low, high) = sum(part.effect for part in found.values()), found[component]
    share = f", {100 * value / total:.1f} %" if total > 0 else ""
    return f"{value:.2g} ({low:.2g} to {high:.2g}){share}"


def _written(interval, measure, *, signed=False) -> str:
    digits, sign = (1 if measure == "iou" else 3), "+" if signed else ""
    value, low, high = (f"{bound:{sign}.{digits}f}" for bound in interval)
    return f"{value} ({low} to {high})" if np.isfinite(interval.low) else value
