"""Names of what a headroom summary holds, and how to read one: all that a page or a ledger needs, without a model.

A summary is a plain mapping, written as ``headroom.json``. Its ``measures`` have, for ``damage`` and (with a tracker)
for ``iou``, every quantity as ``[value, low, high]`` in the measure's unit; bounds are None where there are none.
"""

from collections.abc import Mapping

from rds_lib.metrics.statistics import Interval

FILE, TABLE, MEASURED = "headroom.json", "headroom.csv", "measured.npz"
UNITS = {"damage": "of the features' norm", "iou": "IoU points"}

FULL = "full encoder"
MEAN, WORST, FIXED, FIXED_HONEST = "mean", "worst", "best fixed", "best fixed, honest"
VIDEO, VIDEO_HONEST, FRAME, FRAME_HONEST = (
    "best a video",
    "best a video, honest",
    "best a frame",
    "best a frame, honest",
)
CHOICES = (MEAN, WORST, FIXED, FIXED_HONEST, VIDEO, VIDEO_HONEST, FRAME, FRAME_HONEST)
VARIANCE = "variance: "  # before the names of ``variance.COMPONENTS``
BETWEEN, WITHIN, TOTAL = "gain between videos", "gain within videos", "gain in all"
NAIVE_BETWEEN, NAIVE_WITHIN = "naive gain between videos", "naive gain within videos"
BY_VIDEO, BY_FRAME = "ridge, a route a video", "ridge, a route a frame"


def interval_of(summary: Mapping, measure: str, quantity: str) -> Interval:
    """One quantity of a summary.

    Raises
    ------
    LookupError
        With the name of the measure or quantity that the summary lacks.
    """
    quantities = summary["measures"]
    if measure not in quantities or quantity not in quantities[measure]:
        raise LookupError(quantity if measure in quantities else measure)
    return Interval(*(float("nan") if bound is None else bound for bound in quantities[measure][quantity]))
