"""Moved to `rds_lib.pipeline.weights`; these names stay until their last reader has moved too."""

from importlib import import_module


def __getattr__(name):
    return getattr(import_module("rds_lib.pipeline.weights"), name)
