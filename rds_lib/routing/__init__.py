"""RDS itself: Algorithm 1, the router, the predictor that routes frame by frame, importance, calibration."""

from rds_lib.routing.algorithm1 import (
    calibrate_threshold,
    normalize_to_budget,
    sample_route,
    threshold_route,
    top_n_route,
)

__all__ = ["calibrate_threshold", "normalize_to_budget", "sample_route", "threshold_route", "top_n_route"]
