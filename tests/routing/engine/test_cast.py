"""Weights that are cast once give autocast's own bits, with none of its casts of weights."""

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rds_lib.core.errors import RDSInputError
from rds_lib.model.sam2 import build_model
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.engine.cast import LAYERS, cast_weights

TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"


class Casts(TorchDispatchMode):
    """Count casts of floating-point tensors to another type."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function.overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.to):
            self.count += args[0].is_floating_point() and result.dtype != args[0].dtype
        return result


@pytest.mark.parametrize("objects", [1, 2])
def test_a_clip_has_the_same_bits_and_routes(build, tracked, objects):
    wanted, routes = tracked(build("eager"), objects)
    found, own_routes = tracked(build("cast"), objects)
    assert torch.equal(found, wanted) and own_routes.equals(routes)
    assert (routes.groupby("frame_idx").active.sum() < 48).sum() >= 5, "frames are routed"


def test_objects_in_one_batch_have_the_same_bits(build, tracked):
    predictors = [build(engine) for engine in ("eager", "cast")]
    for predictor in predictors:
        predictor.objects_at_once = 2
    (wanted, _), (found, _) = (tracked(predictor, objects=2, frames=4) for predictor in predictors)
    assert torch.equal(found, wanted)


def test_another_hiera_has_the_same_bits(tracked):
    found = []
    for engine in ("eager", "cast"):
        torch.manual_seed(0)
        options = {"routing": "full", "device": "cpu", "hydra_overrides_extra": ["++model.image_size=256"]}
        found.append(tracked(build_rds_video_predictor(TINY, engine=engine, **options), frames=3)[0])
    assert torch.equal(*found)


def test_no_weight_of_the_trunk_is_cast_any_more(mini_model):
    trunk, image = mini_model.image_encoder.trunk, torch.randn(1, 3, 192, 192)
    counts = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for prepare in (lambda model: model, cast_weights):
            prepare(mini_model)
            with Casts() as casts:
                trunk(image)
            counts.append(casts.count)
    weights = sum(len([*module.parameters(recurse=False)]) for module in trunk.modules() if isinstance(module, LAYERS))
    assert counts[0] - counts[1] == weights == 392 and counts[1] <= 20


def test_a_routed_frame_casts_less(build, film):
    def casts_of(predictor):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            state = predictor.init_state(film)
            predictor.add_new_mask(state, 0, 1, film[0, ..., 0] == 200)
            frames = predictor.propagate_in_video(state)
            next(frames), next(frames)
            with Casts() as casts:
                next(frames)
        assert predictor.route_table(state).query("frame_idx == 2").reason.iloc[0] == "routed"
        return casts.count

    eager, cast = (casts_of(build(engine)) for engine in ("eager", "cast"))
    assert cast < eager / 2


def test_norms_and_embeddings_keep_their_precision_and_the_policy_given_stays_as_it_is(build):
    predictor, policy = build("cast"), build("eager").policy
    trunk = predictor.image_encoder.trunk
    assert trunk.blocks[3].attn.qkv.bias.dtype == trunk.patch_embed.proj.weight.dtype == torch.bfloat16
    assert {trunk.pos_embed.dtype, trunk.blocks[3].norm1.weight.dtype, predictor.maskmem_tpos_enc.dtype} == {
        torch.float32
    }
    predictor.set_policy(policy)
    assert predictor.policy.router.frame_weight.dtype == torch.bfloat16
    assert policy.router.frame_weight.dtype == torch.float32
    again = predictor.policy
    predictor.set_policy(again)
    assert predictor.policy is again


def test_adapters_are_merged_before_the_weights_are_cast(build):
    merged = build("eager").image_encoder.trunk.blocks[12].attn.qkv
    cast = build("cast").image_encoder.trunk.blocks[12].attn.qkv
    assert type(cast) is nn.Linear and torch.equal(cast.weight, merged.weight.bfloat16())
    plain = build("cast", routing="full").image_encoder.trunk.blocks[12].attn.qkv
    assert not torch.equal(cast.weight, plain.weight)


def test_a_time_budget_is_measured_with_the_cast_weights(build, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build("cast", budget="30 blocks").policy.n_active == 30
    with pytest.raises(RDSInputError, match="ms in that range"):
        build("cast", budget="0.000001 ms")


@pytest.mark.parametrize("dtype, match", [(None, "autocast is off"), (torch.float16, "runs in torch.float16")])
def test_tracking_without_autocast_is_one_clear_error(build, film, dtype, match):
    with torch.autocast("cpu", dtype, enabled=dtype is not None), pytest.raises(RDSInputError, match=match):
        build("cast").init_state(film)


def test_stock_sam2_may_be_cast_too(mini_weights, film, tmp_path):
    for t in range(3):
        Image.fromarray(film[t]).save(tmp_path / f"{t}.jpg")
    found = []
    for prepare in (lambda model: model, cast_weights):
        model = prepare(build_model("mini", mini_weights))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            state = model.init_state(str(tmp_path))
            model.add_new_mask(state, 0, 1, film[0, ..., 0] == 200)
            found.append(torch.stack([logits.clone() for *_, logits in model.propagate_in_video(state)]))
    assert len(found[0]) == 3 and torch.equal(*found)
