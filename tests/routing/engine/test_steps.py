"""Which engines there are, what they are made of, and what they do not go with."""

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.engine.steps import ENGINES, STEPS, Engine


def test_an_engine_is_a_name_or_its_steps():
    assert Engine.of("eager") == Engine.of([]) == Engine()
    assert all(Engine.of(name) == Engine.of(list(steps)) for name, steps in ENGINES.items())
    assert Engine.of("graphs").steps == {*STEPS}


@pytest.mark.parametrize(
    "options, match",
    [
        ({"engine": "fast"}, "engine is 'fast'; choose one of eager, cast, compiled, graphs"),
        ({"engine": ["cast", "wheels"]}, "list of steps: cast, blocks"),
        ({"engine": ["graphs"]}, "add the step 'cast'"),
        ({"engine": "graphs"}, "need a CUDA device: use 'compiled'"),
        ({"engine": "cast", "mode": "train"}, "mode 'train'"),
        ({"engine": "compiled", "vos_optimized": True}, "compiles by itself"),
    ],
)
def test_engines_that_cannot_be_are_refused_before_anything_is_built(options, match, monkeypatch):
    monkeypatch.setattr("rds_lib.routing.build.build_model", None)
    with pytest.raises(RDSInputError, match=match):
        build_rds_video_predictor("mini", False, routing="full", device="cpu", **options)


def test_no_engine_leaves_the_model_alone(build):
    predictor = build("eager")
    assert {parameter.dtype for parameter in predictor.parameters()} == {torch.float32}
    assert all(module._compiled_call_impl is None for module in predictor.modules())
