"""What is compiled, is compiled once: for all blocks of a kind, all routes, frames and objects."""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from rds_lib.model.adapters import add_lora, merge_lora
from rds_lib.model.backbone import HieraBackbone
from rds_lib.model.sam2 import build_model
from rds_lib.routing.deployed import FoldedRouter
from rds_lib.routing.engine.compiled import compile_blocks, compile_router, compile_tail
from rds_lib.routing.router import PredictionAwareRouter

LARGE = "configs/sam2.1/sam2.1_hiera_l.yaml"


def large(*, adapted=False):
    """Hiera-L without values: its graphs follow from shapes alone."""
    model = build_model(LARGE, overrides=["++model.image_size=256"]).requires_grad_(False)
    if adapted:
        merge_lora(add_lora(model, range(0, 48, 2), rank=2))
    model.to("meta")
    return HieraBackbone(model)


@torch.inference_mode()
def test_eight_graphs_serve_the_48_blocks_of_hiera_l_on_200_random_routes(traced):
    backbone, generator = large(), torch.Generator().manual_seed(0)
    compile_blocks(backbone.blocks)
    for graphs, side in ((8, 256 // 4), (16, 512 // 4)):  # another size of images has eight of its own
        tokens = torch.zeros(1, side, side, 144, device="meta")
        backbone.run_blocks(tokens)
        assert len(traced) == graphs
        for _ in range(200):
            route = torch.rand(48, generator=generator) < torch.rand(1, generator=generator)
            backbone.run_blocks(tokens, backbone.check_route(route))
        assert len(traced) == graphs


@torch.inference_mode()
def test_merged_adapters_add_no_graph(traced):
    backbone = large(adapted=True)
    compile_blocks(backbone.blocks)
    backbone.run_blocks(torch.zeros(1, 64, 64, 144, device="meta"))
    assert len(traced) == 8


def test_the_router_is_one_graph_for_all_frames_and_any_number_of_objects(build, tracked, traced):
    predictor = build(["cast", "router"])
    for objects in (1, 3):
        _, routes = tracked(predictor, objects)
        assert (routes.reason == "routed").mean() > 0.5 and len(traced) == 1


def test_the_tail_is_compiled_once_for_a_longer_video(build, tracked, traced):
    """Memory attention once without a memory's company and once for any number of them."""
    predictor = build("eager")
    compile_tail(predictor)
    wanted, _ = tracked(build("eager"))
    found, _ = tracked(predictor)
    early = len(traced)
    torch.testing.assert_close(found, wanted)
    tracked(predictor, objects=2)
    assert 3 <= early == len(traced) <= 6 and counters["graph_break"] == {}


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
@torch.inference_mode()
def test_a_compiled_router_rates_blocks_as_before_and_lets_a_nan_through():
    torch.manual_seed(0)
    torch._dynamo.reset()
    router = FoldedRouter(PredictionAwareRouter(16, 48, [0, 47], image_size=64).eval())
    tokens, mask = torch.randn(1, 16, 16, 16), torch.randn(1, 1, 16, 16)
    broken = mask.index_fill(2, torch.tensor(5), torch.nan)
    wanted = router(tokens, mask)
    compile_router(router)
    torch.testing.assert_close(router(tokens, mask), wanted, rtol=0, atol=1e-5)
    assert router(tokens, broken).isnan().all() and router(tokens, -mask.abs())[0, -1] == 0
