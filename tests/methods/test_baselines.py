"""The baselines: what they remove or skip, that masked and skipped forwards agree, and what moves their gates."""

import copy

import numpy as np
import pytest
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.methods import adavit, dyt
from rds_lib.methods.files import set_threshold
from rds_lib.methods.gates import gumbel_gate, rate_threshold
from rds_lib.methods.pbd import drop_blocks, dropped_blocks
from rds_lib.methods.static import PLANS, published_plan, random_plan
from rds_lib.model.encoder import encode_image
from rds_lib.model.sam2 import build_model
from rds_lib.routing.predictor import build_rds_video_predictor

K = (0, 2, 8, 44, 47)


@pytest.fixture
def model():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build_model("mini", ckpt_path=False).requires_grad_(False)


@pytest.fixture(scope="module")
def image():
    return torch.randn(1, 3, 192, 192, generator=torch.Generator().manual_seed(1))


@torch.inference_mode()
def features(model, image):
    return model.forward_image(image)["backbone_fpn"]


def largest_difference(a, b):
    return max((x - y).abs().max().item() for x, y in zip(a, b, strict=True))


# --- static plans ---


def test_the_published_plans_hold_24_blocks_and_all_that_must_run():
    for name in PLANS:
        flags = published_plan(name, 48)
        assert sum(flags) == 24 and all(flags[i] for i in K)
    assert [i for i, flag in enumerate(published_plan("A", 48)) if flag][9:12] == [13, 15, 18]
    assert [i for i, flag in enumerate(published_plan("B", 48)) if flag][9:12] == [14, 16, 19]
    with pytest.raises(RDSInputError, match="'C' is unknown"):
        published_plan("C", 48)
    with pytest.raises(RDSInputError, match="has 24"):
        published_plan("A", 24)


def test_random_plans_have_their_size_and_favour_no_block():
    rng = np.random.default_rng(0)
    plans = np.array([random_plan(24, 48, K, rng) for _ in range(600)])
    assert (plans.sum(1) == 24).all() and plans[:, list(K)].all()
    shares = np.delete(plans.mean(0), K)
    assert shares == pytest.approx(np.full(43, 19 / 43), abs=0.09)
    with pytest.raises(RDSInputError, match="5 .*to 48"):
        random_plan(4, 48, K, rng)


# --- PBD ---


@pytest.mark.parametrize("level, dropped", [
    (0.9, {42, 43, 45, 46}), (0.8, {*range(38, 44), 45, 46}), (0.6, {*range(30, 44), 45, 46}), (0.4, {*range(22, 44), 45, 46})])
def test_reading_a_drops_the_last_blocks_that_may_go(level, dropped):
    assert set(dropped_blocks(level, depth=48, always_on=K)) == dropped


def test_readings_b_and_c_take_the_last_24_blocks_at_their_word():
    assert dropped_blocks(0.4, depth=48, always_on=K, reading="B") == [*range(24, 44), 45, 46]
    assert dropped_blocks(0.4, depth=48, always_on=K, reading="C") == list(range(24, 48))
    assert dropped_blocks(1, depth=48, always_on=K) == []
    with pytest.raises(RDSInputError, match="'D' is unknown"):
        dropped_blocks(0.4, depth=48, always_on=K, reading="D")
    with pytest.raises(RDSInputError, match="0.3"):
        dropped_blocks(0.3, depth=48, always_on=K)


@pytest.mark.parametrize("reading", ["A", "B"])
def test_a_model_without_the_blocks_does_what_skipping_them_does(model, image, reading):
    dropped = dropped_blocks(0.4, depth=48, always_on=K, reading=reading)
    with torch.inference_mode():
        skipped = encode_image(model, image, [i not in dropped for i in range(48)])["backbone_fpn"]
    assert largest_difference(skipped, features(model, image)) > 1e-3
    weights = sum(p.numel() for p in model.parameters())
    kept = drop_blocks(model, dropped)
    assert kept == [i for i in range(48) if i not in dropped] and len(model.image_encoder.trunk.blocks) == len(kept)
    assert sum(p.numel() for p in model.parameters()) < weights
    assert largest_difference(skipped, features(model, image)) == 0


def test_reading_c_cuts_the_last_stage_off_the_neck(model, image):
    whole = features(model, image)
    drop_blocks(model, dropped_blocks(0.4, depth=48, always_on=K, reading="C"))
    assert model.image_encoder.trunk.stage_ends == [1, 7, 23]
    cut = features(model, image)
    assert [x.shape for x in cut] == [x.shape for x in whole]
    assert cut[0].equal(whole[0]) and cut[1].equal(whole[1]) and not cut[2].equal(whole[2])


@pytest.mark.parametrize("dropped", [[2], [8, 9], range(2, 8), range(48)])
def test_a_stage_that_goes_on_keeps_its_first_block(model, image, dropped):
    before = features(model, image)
    with pytest.raises(RDSInputError, match="cannot be dropped"):
        drop_blocks(model, dropped)
    assert largest_difference(before, features(model, image)) == 0


# --- gates ---


def test_a_gate_fires_with_the_probability_of_its_logit_and_passes_a_gradient():
    logits = torch.tensor([-2.0, 0.0, 1.5]).repeat(20000, 1).requires_grad_()
    gate = gumbel_gate(logits, torch.Generator().manual_seed(0))
    assert set(gate.detach().unique().tolist()) == {0.0, 1.0}
    assert gate.mean(0).tolist() == pytest.approx(torch.tensor([-2.0, 0.0, 1.5]).sigmoid().tolist(), abs=0.01)
    gate.sum().backward()
    assert (logits.grad > 0).all() and logits.grad.max() <= 0.05 + 1e-6  # sigmoid' / 5


def test_a_threshold_keeps_the_share_it_was_asked_for():
    logits = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    for rate in (0, 0.25, 0.9, 1):
        assert (logits > rate_threshold(logits, rate)).float().mean().item() == pytest.approx(rate)
    with pytest.raises(RDSInputError, match="1.5"):
        rate_threshold(logits, 1.5)


# --- DyT ---


def keep_rates(modules):
    return [module.gate.detach().float().mean().item() for module in modules]


def dispatch(model, *, sharpness=0.0):
    """Dispatchers that split the tokens whatever the noise, and adapters that do something."""
    generator = torch.Generator().manual_seed(0)
    modules = dyt.add_dispatchers(model, width=8)
    for module in modules:
        module.adapter[3].weight.data.normal_(0, 0.1, generator=generator)
        if sharpness:
            module.dispatcher.weight.data.normal_(0, sharpness, generator=generator)
            module.dispatcher.bias.data.zero_()
    return modules


def test_an_untrained_dyt_model_changes_nothing_where_all_tokens_are_kept(model, image):
    before = features(model, image)
    dyt.add_dispatchers(model, width=8)
    set_threshold(model, -1e9)
    assert largest_difference(before, features(model, image)) < 1e-6
    with pytest.raises(RDSInputError, match="already"):
        dyt.add_dispatchers(model)


def test_gathered_tokens_give_what_gated_ones_give(model, image, monkeypatch):
    """The gate without its noise."""
    monkeypatch.setattr(dyt, "gumbel_gate", lambda logits, generator: (logits > 0).float())
    modules = dispatch(model, sharpness=1.0)
    gathered = features(model, image)
    rates = keep_rates(modules)
    assert 0.2 < np.mean(rates) < 0.8
    for module in modules:
        module.training = True  # and not its dropout
    assert largest_difference(gathered, features(model, image)) < 1e-5
    assert keep_rates(modules) == rates


def test_a_dropped_token_never_enters_the_mlp(model, image):
    modules = dispatch(model, sharpness=1.0)
    seen = []
    for module in modules:
        module.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    features(model, image)
    assert seen == [int(module.gate.sum()) for module in modules]
    set_threshold(model, 1e9)
    seen.clear()
    features(model, image)
    assert not any(seen)


def test_the_complete_model_keeps_all_tokens_and_the_rate_loss_moves_the_dispatchers(model, image):
    dispatch(model, sharpness=1.0)
    set_threshold(model, -1e9)
    everything = features(model, image)
    set_threshold(model, 1e9)
    with dyt.complete_model(model):
        assert largest_difference(everything, features(model, image)) < 1e-5
    assert largest_difference(everything, features(model, image)) > 1e-3
    for module in model.image_encoder.trunk.blocks:
        module.mlp.train()
    model.forward_image(image)
    mean = np.mean(keep_rates(dyt.dispatchers(model)))
    assert dyt.rate_loss(model, 0.2).item() == pytest.approx(2 * (mean - 0.2) ** 2, rel=1e-4)
    bias = model.image_encoder.trunk.blocks[20].mlp.dispatcher.bias.requires_grad_()
    model.forward_image(image)
    dyt.rate_loss(model, 0.2).backward()
    assert bias.grad.item() > 0, "too many tokens are kept: the bias has to fall"


# --- AdaViT ---


def test_an_untrained_adavit_model_is_the_model_itself(model, image):
    before = features(model, image)
    gated = adavit.add_policies(model, K)
    assert len(gated) == 43
    assert largest_difference(before, features(model, image)) == 0 and all(block.gate.all() for block in gated)
    with pytest.raises(RDSInputError, match="already"):
        adavit.add_policies(model, K)


def test_policies_are_not_put_where_shapes_change(model):
    with pytest.raises(RDSInputError, match="2, 8, 44"):
        adavit.add_policies(model, (0, 47))


def test_a_block_that_is_decided_against_is_not_called_and_equals_a_gate_of_0(model, image):
    gated = adavit.add_policies(model, K)
    off = gated[3::5]
    calls = []
    for block in gated:
        block.policy[1].bias.data.fill_(-100.0 if block in off else 100.0)
        block.block.register_forward_pre_hook(lambda module, _: calls.append(module))
    skipped = features(model, image)
    assert len(calls) == len(gated) - len(off) and not any(block.block in calls for block in off)
    assert [not block.gate.any() for block in gated] == [block in off for block in gated]
    for block in gated:
        block.training = True
    assert largest_difference(skipped, features(model, image)) < 1e-5


def test_images_of_one_batch_may_take_different_blocks(model, image):
    gated = adavit.add_policies(model, K)
    generator = torch.Generator().manual_seed(5)
    for block in gated:
        block.policy[1].weight.data.normal_(0, 1, generator=generator)
        block.policy[1].bias.data.zero_()
    both = torch.cat([image, 0.2 * image.flip(2) + 1])
    together = features(model, both)
    mixed = [block.gate.tolist() for block in gated]
    assert any(a != b for a, b in mixed)
    for n in range(2):
        alone = features(model, both[n : n + 1])
        assert largest_difference(alone, [x[n : n + 1] for x in together]) < 1e-4


def test_the_usage_loss_is_absolute_and_its_target_gives_24_blocks_at_level_04(model, image):
    gated = adavit.add_policies(model, K)
    for block in gated:
        block.training = True
        block.policy[1].bias.requires_grad_()
    model.forward_image(image)
    share = np.mean([block.gate.item() for block in gated])
    loss = adavit.usage_loss(model, 0.5)
    assert loss.item() == pytest.approx(2 * abs(share - 0.5), rel=1e-5)
    loss.backward()
    assert all(block.policy[1].bias.grad.item() > 0 for block in gated)
    assert 5 + 43 * adavit.target_rate(0.4, depth=48, n_always_on=5) == pytest.approx(24)


# --- in the predictor ---


@pytest.mark.parametrize("method", ["pbd", "dyt", "adavit"])
def test_the_same_predictor_tracks_with_every_baseline(method):
    frames = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), np.uint8)
    predictor = build_rds_video_predictor("mini", False, routing="full", device="cpu", apply_postprocessing=False)
    torch.nn.init.constant_(predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)  # so that it sees an object
    stock = copy.deepcopy(predictor)
    if method == "pbd":
        drop_blocks(predictor, dropped_blocks(0.4, depth=48, always_on=K))
    elif method == "dyt":
        dispatch(predictor, sharpness=1.0)
    else:
        adavit.add_policies(predictor, K)
        set_threshold(predictor, 3.0)
    results = []
    for tracker in (predictor, stock):
        state = tracker.init_state(frames)
        tracker.add_new_mask(state, 0, 1, np.pad(np.ones((20, 30), bool), ((10, 18), (20, 14))))
        results.append([logits for _, _, logits in tracker.propagate_in_video(state)])
    assert len(results[0]) == 3 and all(x.isfinite().all() for x in results[0])
    assert any(not a.equal(b) for a, b in zip(*results)), "the baseline is in the loop"
