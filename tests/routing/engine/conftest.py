"""A moving box, predictors of the mini SAM2 over it, and compilation without a compiler."""

import numpy as np
import pytest
import torch

from rds_lib.routing.build import build_rds_video_predictor

H, W = 96, 128


def box(top=30, left=10):
    mask = np.zeros((H, W), bool)
    mask[top : top + 30, left : left + 35] = True
    return mask


@pytest.fixture(scope="session")
def film():
    """Eight frames (T, H, W, 3) uint8."""
    background = np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8)
    frames = np.stack([background] * 8)
    for t, frame in enumerate(frames):
        frame[box(left=10 + 5 * t)] = (200, 40, 40)
    return frames


@pytest.fixture
def build(mini_weights, rds_file):
    """``build(engine)``: the mini SAM2 with random weights, routed at budget 0.5; options override."""

    def build(engine="eager", **options):
        options = {"budget": 0.5, "rds_path": rds_file, "device": "cpu"} | options
        return build_rds_video_predictor("mini", mini_weights, engine=engine, **options)

    return build


@pytest.fixture
def tracked(film):
    """``tracked(predictor, objects=1, frames=8)``: logits (T, O, 1, H, W) in bfloat16 autocast, and the routes."""

    @torch.inference_mode()
    def tracked(predictor, objects=1, frames=8):
        with torch.autocast("cpu", torch.bfloat16):
            state = predictor.init_state(film[:frames])
            for k in range(objects):
                predictor.add_new_mask(state, 0, k, box(30 + 5 * k, 10 + 20 * k))
            found = torch.stack([logits.clone() for *_, logits in predictor.propagate_in_video(state)])
        return found, predictor.route_table(state)

    return tracked


def _once(function):
    """A function of tensors without values, whose results can be those of its first call ever after."""
    made = []

    def call(*args):
        if not made:
            made.append(function(*args))
        return made[0]

    return call


@pytest.fixture
def traced(monkeypatch):
    """Let ``Module.compile`` trace and run what it traced, without a compiler; the graphs, in the order of tracing."""
    graphs, compile = [], torch.nn.Module.compile
    torch._dynamo.reset()

    def backend(graph, inputs):
        graphs.append(graph)
        is_empty = any(isinstance(one, torch.Tensor) and one.is_meta for one in inputs)
        return _once(graph.forward) if is_empty else graph.forward

    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **options: compile(self, backend=backend, **options))
    yield graphs
    torch._dynamo.reset()
