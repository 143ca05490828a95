"""RDS companion: block routing for SAM2's image encoder, its training, its controls and its evaluation.

The names below are loaded when first used, so that ``import rds_lib`` costs nothing.
"""

from importlib import import_module

_EXPORTS = {
    "load_params": "pipeline.params",
    "normalize_to_budget": "routing.algorithm1",
    "threshold_route": "routing.algorithm1",
    "sample_route": "routing.algorithm1",
    "top_n_route": "routing.algorithm1",
    "calibrate_threshold": "routing.algorithm1",
    "Backbone": "model.backbone",
    "PredictionAwareRouter": "routing.router",
    "FrameRouter": "routing.frame_router",
    "rank_blocks": "routing.importance",
    "build_rds_video_predictor": "routing.build",
    "RDSVideoPredictor": "routing.predictor",
    "build_rds_dino_tracker": "dinov3.build",
    "frames_of": "streaming.sources",
    "Method": "methods.base",
    "score_masks": "metrics.masks",
    "RoutingInspector": "show.inspector.widget",
    "LiveInspector": "show.inspector.live",
    "RDSInputError": "core.errors",
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
