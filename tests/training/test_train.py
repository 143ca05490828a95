"""The RDS loop: what it changes, what it leaves alone, and that it can be stopped."""

import csv
from types import SimpleNamespace

import pytest
import torch

from rds_lib.model.backbone import backbone_of
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.routing.algorithm1 import target_active
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import load_rds
from rds_lib.training import rds as module
from rds_lib.training.loop import Schedule
from rds_lib.training.rds import Recipe, RoutedClip, train_rds
from rds_lib.training.tasks import clip_generators, tracking_loss

BLOCKS = [0, 5, 12, 44]


class Killed(Exception):
    """Stands for a process that ends in the middle."""


def train(folder, sequences, weights, *, budgets=(0.5,), steps=2, batch=1, model=None, recipe=None, **options):
    """Train at 64 px and return the file; other options are the router's."""
    model = model or small(weights)
    schedule = Schedule(steps=steps, batch=batch, frames=3, seed=1, save_every=1)
    return train_rds(
        SAM2Clips(model),
        schedule=schedule,
        sequences=sequences,
        blocks=BLOCKS,
        budgets=budgets,
        lora_rank=2,
        lr_router=1e-2,
        lr_lora=1e-2,
        preference_rate=options.pop("preference_rate", 30.0),
        recipe=recipe or Recipe(),
        router_options=options,
        out=folder / "rds.safetensors",
        workdir=folder / "run",
    )


def small(weights):
    model = build_model("mini", str(weights)).requires_grad_(False)
    set_image_size(model, 64)
    return model


def log_of(folder):
    with open(folder / "run" / "log.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def whole(sequences, mini_weights, tmp_path_factory):
    """An uninterrupted run of two steps for one budget: its folder, and the model as training left it."""
    folder, model = tmp_path_factory.mktemp("whole"), small(mini_weights)
    train(folder, sequences, mini_weights, model=model)
    return folder, model


def test_a_stopped_run_ends_at_the_same_file(whole, sequences, mini_weights, tmp_path, monkeypatch):
    tracking_loss, calls = module.tracking_loss, []

    def once_too_often(*args):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return tracking_loss(*args)

    monkeypatch.setattr(module, "tracking_loss", once_too_often)
    with pytest.raises(Killed):
        train(tmp_path, sequences, mini_weights)
    assert not (tmp_path / "rds.safetensors").exists()
    monkeypatch.setattr(module, "tracking_loss", tracking_loss)
    torch.rand(7)  # whatever came before must not matter
    train(tmp_path, sequences, mini_weights)
    assert (tmp_path / "rds.safetensors").read_bytes() == (whole[0] / "rds.safetensors").read_bytes()
    assert log_of(tmp_path) == log_of(whole[0])


def test_only_adapters_ask_for_a_gradient_and_the_base_stays_as_it_was(whole, mini_model):
    trained, base = whole[1], mini_model.state_dict()
    assert {
        name.split(".lora_")[0].split(".blocks.")[1].split(".")[0]
        for name, p in trained.named_parameters()
        if p.requires_grad
    } == set(map(str, BLOCKS))
    assert all("lora_" in name for name, p in trained.named_parameters() if p.requires_grad or p.grad is not None)
    kept = {
        name.replace(".base_layer", ""): tensor for name, tensor in trained.state_dict().items() if "lora_" not in name
    }
    assert kept.keys() == base.keys()
    assert all(kept[name].equal(base[name]) for name in base)


def test_router_and_adapters_learn(whole):
    weights = load_rds(whole[0] / "rds.safetensors")
    assert weights.blocks == tuple(BLOCKS) and weights.rank == 2 and weights.budgets == (0.5,)
    learned = [name for name, tensor in weights.lora.items() if name.endswith("lora_B") and tensor.any()]
    assert {int(name.split("blocks.")[1].split(".")[0]) for name in learned} == set(BLOCKS)
    assert weights.router.mlp[-1].bias.abs().max() > 0, "the last bias starts at zero"
    assert weights.router.alpha.item() != 1


def test_the_log_tells_how_many_blocks_ran_and_how_much_routes_differ(whole):
    rows = log_of(whole[0])
    assert [row["step"] for row in rows] == ["0", "1"] and {row["budget"] for row in rows} == {"0.5"}
    for row in rows:
        assert float(row["loss"]) > 0 and 0 <= float(row["iou"]) <= 1
        assert 14 < float(row["active"]) < 40, "26.5 of 48 are expected"
        assert float(row["spread"]) > 0


def test_without_a_budget_the_adapters_of_the_full_encoder_are_trained(sequences, mini_weights, tmp_path):
    weights = load_rds(train(tmp_path, sequences, mini_weights, budgets=(), steps=1))
    assert weights.router is None and weights.budgets == ()
    assert any(tensor.any() for name, tensor in weights.lora.items() if name.endswith("lora_B"))
    row = log_of(tmp_path)[0]
    assert float(row["active"]) == 48 and row["budget"] == "full" and float(row["spread"]) == 0


def test_several_budgets_train_one_router_and_are_drawn_per_clip(sequences, mini_weights, tmp_path, monkeypatch):
    drawn = []
    draw = module.draw_budgets
    monkeypatch.setattr(module, "draw_budgets", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    weights = load_rds(train(tmp_path, sequences, mini_weights, budgets=(0.2, 0.9), steps=1, batch=3))
    assert weights.budgets == (0.2, 0.9) and log_of(tmp_path)[0]["budget"] == "any"
    assert len(drawn) == 1 and drawn[0].shape == (3,)
    many = draw((0.2, 0.9), clip_generators(0, 0, 200, range(200), "cpu"))
    assert 70 < (many > 0.5).sum() < 130 and set(many.tolist()) == set(torch.tensor([0.2, 0.9]).tolist())
    assert draw((), [torch.Generator()]) is None


@pytest.fixture
def routed_clip(mini_model, rds_file):
    set_image_size(mini_model, 64)
    router = load_rds(rds_file).router
    router.image_size = 64
    images = torch.randn(2, 3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    budget, generators = torch.tensor([0.1, 0.9]), [torch.Generator().manual_seed(seed) for seed in (1, 2)]
    return RoutedClip(backbone_of(mini_model), router, images, budget, generators)


def square(size=64):
    targets = torch.zeros(2, 3, size, size)
    targets[:, :, 16:40, 16:40] = 1
    return targets


def test_the_first_frame_is_full_and_the_others_follow_their_own_budget(routed_clip, mini_model, monkeypatch):
    routes, run = [], routed_clip.backbone.run

    def spy(tokens, route=None):
        routes.append(route)
        return run(tokens, route)

    monkeypatch.setattr(routed_clip.backbone, "run", spy)
    tracking_loss(SAM2Clips(mini_model), routed_clip.encode, square())
    assert routes[0] is None and len(routes) == 3
    for route in routes[1:]:
        assert route.shape == (2, 48) and set(route.detach().unique().tolist()) <= {0.0, 1.0}
        assert (route[:, list(routed_clip.router.always_on)] == 1).all()
        assert route[0].sum() + 15 < route[1].sum()
    statistics = routed_clip.statistics()
    assert statistics["active"] == pytest.approx(torch.stack(routes[1:]).sum(-1).mean().item(), abs=0.01)
    assert statistics["spread"] > 0


def test_the_loss_reaches_the_router_through_the_drawn_route(routed_clip, mini_model):
    loss, _ = tracking_loss(SAM2Clips(mini_model), routed_clip.encode, square())
    loss.backward()
    router = routed_clip.router
    for parameter in (router.mlp[-1].weight, router.mask_patch_embed.weight, router.image_proj.weight, router.alpha):
        assert parameter.grad is not None and parameter.grad.abs().max() > 0
    assert all(p.grad is None for p in mini_model.parameters())


def test_a_clip_whose_last_mask_is_empty_runs_in_full_and_moves_no_router(routed_clip, monkeypatch):
    routes = []
    monkeypatch.setattr(routed_clip.backbone, "run", lambda tokens, route=None: routes.append(route))
    low = torch.full((2, 1, 16, 16), -1.0)
    low[1, 0, 3, 4] = 0.5
    routed_clip.encode(1, SimpleNamespace(low_res_logits=low))
    (route,) = routes
    assert (route[0] == 1).all() and 5 < route[1].sum() < 48
    route[0].sum().backward(retain_graph=True)
    assert not any(p.grad is not None and p.grad.any() for p in routed_clip.router.parameters())
    route[1].sum().backward()
    assert routed_clip.router.alpha.grad.abs() > 0
    assert routed_clip.statistics()["active"] == route[1].sum().item(), "of the routed clip alone"


def test_the_log_of_frames_without_any_mask_says_full(routed_clip, monkeypatch):
    monkeypatch.setattr(routed_clip.backbone, "run", lambda tokens, route=None: None)
    routed_clip.encode(1, SimpleNamespace(low_res_logits=torch.full((2, 1, 16, 16), -1.0)))
    assert routed_clip.statistics() == {"active": 48.0, "spread": 0.0}


@pytest.mark.parametrize("learn_spread", [False, True])
def test_what_frames_share_is_learnt_faster_and_every_parameter_once(routed_clip, learn_spread):
    router = PredictionAwareRouter.for_backbone(routed_clip.backbone, learn_spread=learn_spread)
    groups = module._groups(routed_clip.backbone, router, 1e-2, 1e-3, 30.0)
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in router.parameters())
    rates = {id(p): group["peak"] for group in groups for p in group["params"]}
    shared = [router.mlp[-1].bias, *([router.log_spread] if learn_spread else [])]
    assert [rates.pop(id(p)) for p in shared] == pytest.approx([3e-2] * len(shared))
    assert set(rates.values()) == {1e-3}


def test_deployed_routes_run_the_wanted_count_of_each_clip_and_still_teach_the_router(routed_clip, mini_model):
    routed_clip.deployed, routes, run = True, [], routed_clip.backbone.run
    routed_clip.backbone.run = lambda tokens, route=None: routes.append(route) or run(tokens, route)
    loss, _ = tracking_loss(SAM2Clips(mini_model), routed_clip.encode, square())
    wanted = [round(target_active(budget, 48, routed_clip.router.always_on)) for budget in (0.1, 0.9)]
    assert all(route.sum(1).tolist() == wanted for route in routes[1:])
    loss.backward()
    assert routed_clip.router.mlp[-1].weight.grad.abs().max() > 0


def test_damage_is_that_of_the_routed_frames_and_moves_the_router(routed_clip, mini_model):
    assert routed_clip.damage() == 0
    routed_clip.measures_damage = True
    tracking_loss(SAM2Clips(mini_model), routed_clip.encode, square())
    assert [len(each) for each in routed_clip.damages] == [2, 2]
    assert routed_clip.damages[0][0] > routed_clip.damages[0][1] > 0, "of a tenth of the blocks, of nine tenths"
    routed_clip.damage().backward()
    assert routed_clip.router.mlp[-1].weight.grad.abs().max() > 0


def test_a_recipe_starts_from_its_prior_and_ends_at_its_spread(sequences, mini_weights, tmp_path):
    prior = tuple(range(48))
    recipe = Recipe(prior=prior, final_spread=3.0)
    options = {"preference_rate": 1e-6, "recipe": recipe, "logit_spread": 2.0}
    router = load_rds(train(tmp_path, sequences, mini_weights, **options)).router
    assert router.mlp[-1].bias.tolist() == pytest.approx(prior, abs=1e-3) and router.logit_spread == 3.0
    assert [recipe.spread(2.0, step, 2) for step in (0, 1, 2)] == [2.0, 2.5, 3.0]
    assert [Recipe(deployed_share=0.25).is_deployed(step, 8) for step in (5, 6)] == [False, True]
    assert not Recipe().is_deployed(7, 8) and Recipe().spread(2.0, 1, 2) == 2.0


def test_a_router_that_was_taught_alone_stays_while_its_adapters_learn(sequences, mini_weights, tmp_path):
    recipe = Recipe(prior=tuple(range(48)), final_spread=3.0, deployed_share=1.0, alone=1)
    file = train(tmp_path, sequences, mini_weights, recipe=recipe)
    kept = torch.load(tmp_path / "run" / "alone" / "state.pt", weights_only=True)["router"]
    found = load_rds(file)
    assert found.router.mlp[0].weight.equal(kept["mlp.0.weight"].half().float()) and found.router.logit_spread == 3.0
    assert any(tensor.any() for name, tensor in found.lora.items() if name.endswith("lora_B"))
