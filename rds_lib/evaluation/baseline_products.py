"""The trained baselines of a profile: their rows in Table 9, and each in the place of SAM2's video predictor."""

from collections.abc import Iterator
from pathlib import Path

from rds_lib.evaluation.products import predictor_for
from rds_lib.methods.activity import activity, tracker, watch_gates  # noqa: F401
from rds_lib.methods.base import METHODS, method_of

LABELS = {name: method.label for name, method in METHODS.items()}


def levels_of(params, method: str) -> tuple[float, ...]:
    """A method's rows in the profile; SlimSAM's as ninths, so 6 is the row 6/9."""
    return method_of(method).levels(params.baselines)


def rows(params) -> Iterator[tuple[str, str, float, str]]:
    """All rows of the profile: method, its label and level in tables, and the name of its file in the method's folder."""
    for name, method in METHODS.items():
        for level in method.levels(params.baselines):
            yield name, method.label, method.table_level(level), f"{level:g}.safetensors"


def load_into(predictor, method: str, path: Path):
    """Turn a predictor of the base model into a trained baseline, in place, and return it."""
    return method_of(method).load(predictor, path)


def baseline_predictor(params, method: str, path: Path, **options):
    """The video predictor of one row, with every public method of SAM2's; see ``products.predictor_for`` for the options."""
    return load_into(predictor_for(params, routing="full", **options), method, path)
