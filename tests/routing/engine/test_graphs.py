"""Blocks that are recorded once and replayed in place: any route, the bits of the blocks, no launch of a skipped one.

Without a GPU a recording is the step itself, run again. All else is what runs there.
"""

import logging

import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.model.backbone import HieraBackbone
from rds_lib.routing.engine.graphs import GraphedBlock, graph_blocks, ungraph_blocks
from rds_lib.routing.engine.steps import Engine

CAST_AND_GRAPHS = Engine.of(["cast", "graphs"])


class Recorder:
    """Stands for CUDA graphs: a step runs once while it is recorded, and again when it is replayed."""

    def __init__(self):
        self.replayed, self.recorded = [], 0

    def __call__(self, step):
        number, self.recorded = self.recorded, self.recorded + 1
        step()
        return lambda: self.replayed.append(number) or step()


@pytest.fixture
def backbone(mini_model):
    return HieraBackbone(mini_model)


def routes_of(backbone, count):
    generator = torch.Generator().manual_seed(0)
    return [backbone.check_route(torch.rand(48, generator=generator) < 0.5) for _ in range(count)]


@torch.inference_mode()
def test_any_route_has_the_bits_of_the_blocks_and_replays_these_alone(backbone):
    images = torch.randn(6, 3, 192, 192, generator=torch.Generator().manual_seed(1)).split(1)
    routes = [None, *routes_of(backbone, 5)]
    wanted = [backbone.run(backbone.embed(image), route) for image, route in zip(images, routes, strict=True)]
    recorder = Recorder()
    graph_blocks(backbone.blocks, backbone.embed(images[0]), recorder)
    assert recorder.recorded == 48
    found = []
    for image, route in zip(images, routes, strict=True):
        recorder.replayed.clear()
        found.append(backbone.run(backbone.embed(image), route))
        assert recorder.replayed == [i for i in range(48) if route is None or route[i]]
    for one, other in zip(found, wanted, strict=True):  # compared last: a later frame must not have overwritten these
        assert all(torch.equal(a, b) for a, b in zip(one["backbone_fpn"], other["backbone_fpn"], strict=True))


@torch.inference_mode()
def test_each_stage_has_one_buffer(backbone):
    graph_blocks(backbone.blocks, backbone.embed(torch.randn(1, 3, 192, 192)), Recorder())
    graphed = [block._compiled_call_impl for block in backbone.blocks]
    assert len({each.target.data_ptr() for each in graphed}) == 4
    assert [i for i, each in enumerate(graphed) if each.source is not each.target] == [2, 8, 44]


def test_tokens_of_another_shape_and_training_run_the_blocks_themselves(backbone):
    with torch.inference_mode():
        large = backbone.embed(torch.randn(2, 3, 192, 192))
        wanted = backbone.run(large)["vision_features"]
    tokens, masks = backbone.embed(torch.randn(1, 3, 192, 192)), torch.ones(1, 48)
    masks[:, 3] = 0
    blended = backbone.run(tokens, masks)["vision_features"]
    recorder = Recorder()
    graph_blocks(backbone.blocks, tokens, recorder)
    with torch.inference_mode():
        assert torch.equal(backbone.run(large)["vision_features"], wanted)
    assert torch.equal(backbone.run(tokens, masks)["vision_features"], blended) and recorder.replayed == []
    ungraph_blocks(backbone.blocks)
    assert all(block._compiled_call_impl is None for block in backbone.blocks)


def test_a_predictor_tracks_with_the_masks_of_its_blocks(build, tracked, caplog):
    wanted, routes = tracked(build("cast"))
    predictor, recorder = build("eager"), Recorder()
    CAST_AND_GRAPHS.apply_to(predictor, recorder)
    found, own_routes = tracked(predictor)
    assert torch.equal(found, wanted) and own_routes.equals(routes)
    assert len(recorder.replayed) > 48 and not caplog.records


def test_recordings_that_go_wrong_are_taken_back_with_a_warning(build, tracked, caplog):
    wanted, _ = tracked(build("cast"), frames=3)
    predictor = build("eager")
    with caplog.at_level(logging.WARNING):
        CAST_AND_GRAPHS.apply_to(predictor, lambda step: step() or (lambda: None))
    assert "are off by" in caplog.text and "not used" in caplog.text
    assert not any(isinstance(block._compiled_call_impl, GraphedBlock) for block in predictor.backbone.blocks)
    assert torch.equal(tracked(predictor, frames=3)[0], wanted)


def test_without_a_gpu_there_are_none(build):
    with pytest.raises(RDSInputError, match="need a CUDA device"):
        build("graphs")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("engine", [("cast", "graphs"), "graphs"])
def test_on_a_gpu_the_masks_are_those_of_the_cast_engine(build, film, engine):
    found = []
    for each in ("cast", engine):
        predictor = build(each, device="cuda")
        with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
            state = predictor.init_state(film)
            predictor.add_new_mask(state, 0, 1, film[0, ..., 0] == 200)
            found.append(torch.stack([logits.clone() for *_, logits in predictor.propagate_in_video(state)]))
    assert any(isinstance(block._compiled_call_impl, GraphedBlock) for block in predictor.backbone.blocks)
    assert (found[0].gt(0) != found[1].gt(0)).float().mean() < 0.01
