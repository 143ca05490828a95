"""RDS companion: block routing for SAM2's image encoder, its training, its controls and its evaluation.

The names below are loaded when first used, so that ``import rds_lib`` costs nothing.
"""

from importlib import import_module

_EXPORTS = {
    "load_params": "params",
    "normalize_to_budget": "routing",
    "threshold_route": "routing",
    "sample_route": "routing",
    "top_n_route": "routing",
    "calibrate_threshold": "routing",
    "PredictionAwareRouter": "router",
    "rank_blocks": "importance",
    "build_rds_video_predictor": "predictor",
    "RDSVideoPredictor": "predictor",
    "score_masks": "metrics",
    "RoutingInspector": "inspector",
    "RDSInputError": "errors",
}
__all__ = list(_EXPORTS)


def __getattr__(name):
    if name not in _EXPORTS:
        raise AttributeError(f"module 'rds_lib' has no attribute {name!r}")
    value = getattr(import_module(f"rds_lib.{_EXPORTS[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted([*globals(), *_EXPORTS])
