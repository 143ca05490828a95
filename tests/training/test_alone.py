"""A router that is taught alone: what it learns, what stays, and that it can be stopped."""

import pytest
import torch
from torch import nn

from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.training import alone as module
from rds_lib.training.alone import Centred, near_object, teach_router
from rds_lib.training.loop import Schedule

PRIOR = tuple((i % 5) - 2.0 for i in range(48))


class Killed(Exception):
    """Stands for a process that ends in the middle."""


def teach(folder, sequences, *, steps=3, lr=1e-2):
    """Teach a new router at 64 px and return it with its backbone."""
    model = build_model("mini").requires_grad_(False)
    set_image_size(model, 64)
    backbone = backbone_of(model)
    torch.manual_seed(1)
    router = PredictionAwareRouter.for_backbone(backbone, hidden=8, logit_spread=3.0)
    router.mlp[-1].bias.data.copy_(torch.tensor(PRIOR))
    schedule = Schedule(steps=steps, batch=2, frames=1, seed=1, save_every=1)
    teach_router(backbone, router, sequences, (0.4,), schedule, workdir=folder, lr=lr)
    return backbone, router


def test_what_all_frames_share_stays_the_prior():
    torch.manual_seed(0)
    layer = Centred(nn.Linear(6, 4))
    for _ in range(200):
        layer(3 + torch.randn(8, 6))
    layer.eval()
    frames = 3 + torch.randn(4000, 6)
    centred, plain = layer(frames), layer.last.bias.clone()
    assert centred.mean(0).tolist() == pytest.approx(plain.tolist(), abs=0.1) and centred.std(0).min() > 0.3
    assert layer.folded()(frames).allclose(centred, atol=1e-5)


def test_the_router_learns_from_the_damage_and_is_left_frozen(sequences, tmp_path):
    backbone, router = teach(tmp_path, sequences)
    torch.manual_seed(1)
    fresh = PredictionAwareRouter.for_backbone(backbone, hidden=8, logit_spread=3.0)
    assert type(router.mlp[-1]) is nn.Linear and not router.training
    assert not any(p.requires_grad for p in router.parameters())
    moved = [(a - b).abs().max() > 1e-3 for a, b in zip(router.mlp.parameters(), fresh.mlp.parameters())]
    assert all(moved[:3]), "both layers' weights and the first bias"
    assert (router.mlp[-1].bias - torch.tensor(PRIOR)).abs().max() < 0.5, "the prior, less the mean of what was added"
    rows = (tmp_path / "log.csv").read_text().splitlines()
    assert rows[0] == "step,loss,spread" and len(rows) == 4


def test_a_stopped_lesson_ends_at_the_same_router(sequences, tmp_path, monkeypatch):
    _, whole = teach(tmp_path / "whole", sequences)
    squared_damage, calls = module.squared_damage, []

    def once_too_often(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return squared_damage(*args, **options)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, "squared_damage", once_too_often)
        teach(tmp_path / "cut", sequences)
    _, again = teach(tmp_path / "cut", sequences)
    assert all(a.equal(b) for a, b in zip(whole.state_dict().values(), again.state_dict().values(), strict=True))


def test_half_of_the_weight_lies_near_the_object():
    masks = torch.zeros(2, 1, 16, 16)
    masks[0, 0, 8, 8] = 0.5
    weight = near_object(masks)
    assert weight.mean((1, 2, 3)).tolist() == pytest.approx([1.0, 1.0]) and weight[1].std() == 0
    near = weight[0, 0, 6:11, 6:11]
    assert near.sum().item() / 256 == pytest.approx(0.5 + 0.5 * 25 / 256) and weight[0, 0, 5, 8].item() == 0.5
