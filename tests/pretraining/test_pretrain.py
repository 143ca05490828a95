"""Training the mini SAM2: the same weights whether or not it was stopped, and files that load again."""

import csv
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import ROOT
from rds_lib.data.batches import GeneratedBatches
from rds_lib.data.sources import HELD_OUT_EVERY, split_held_out
from rds_lib.model.backbone import backbone_of
from rds_lib.model.clip_tracking import frame_by_frame
from rds_lib.model.losses import sam2_loss
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.pipeline import pretrain as stage
from rds_lib.pipeline.params import load_params
from rds_lib.pretraining import held_out, pretrain as module
from rds_lib.pretraining.held_out import Choice, held_out_iou, held_out_videos_iou
from rds_lib.pretraining.pretrain import draw_route, export_weights, pretrain
from rds_lib.training.run import Averaged

PHASES = [(64, 2, 1, 2), (96, 2, 2, 1)]


@pytest.fixture(scope="module")
def train(cache, real_root):
    """Return a function that trains in a folder: made and real clips, two objects a pass, checked every two steps."""

    def run(folder, **options):
        own = {
            "davis_root": real_root,
            "objects": 2,
            "check_every": 2,
            "save_every": 1,
            "drop_path": 0.1,
            "cache": cache,
        }
        return pretrain(workdir=folder, seed=1, phases=PHASES, lr=1e-3, device="cpu", **own | options)

    return run


def rows_of(folder):
    with open(folder / "log.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, train):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def test_a_stopped_run_ends_at_the_same_weights(whole, tmp_path, stopped_at, train):
    """Killed in the third step, in its second phase, which draws other clips and other noise than the first."""
    with stopped_at(module, "prompted_loss", 3):
        train(tmp_path)
    assert not (tmp_path / "weights.safetensors").exists()
    torch.rand(7)  # whatever came before must not matter
    train(tmp_path)
    assert (tmp_path / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    timeless = [[{k: v for k, v in row.items() if k != "seconds"} for row in rows_of(f)] for f in (tmp_path, whole)]
    assert timeless[0] == timeless[1]


def test_the_log_tells_size_loss_and_iou_of_every_step(whole):
    rows = rows_of(whole)
    assert [int(row["step"]) for row in rows] == [0, 1, 2]
    assert [int(row["image_size"]) for row in rows] == [64, 64, 96]
    assert all(float(row["loss"]) > 0 and 0 <= float(row["iou"]) <= 1 and int(row["objects"]) > 0 for row in rows)
    assert [bool(row["held_out"]) for row in rows] == [False, True, True], "every second step, and the last"


def test_a_finished_run_is_not_trained_again(whole, monkeypatch, train):
    monkeypatch.setattr(module, "prompted_loss", None)
    before = (whole / "weights.safetensors").read_bytes()
    assert train(whole).read_bytes() == before


def test_the_averaged_weights_are_half_precision_and_load(whole):
    state = load_file(whole / "weights.safetensors")
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    model = build_model("mini", whole / "weights.safetensors")
    assert model.state_dict().keys() == state.keys()
    name = "image_encoder.trunk.blocks.5.mlp.layers.0.weight"
    assert model.state_dict()[name].equal(state[name].float())


def test_training_moves_the_weights(whole):
    with torch.random.fork_rng():
        torch.manual_seed(1)
        start = build_model("mini", ckpt_path=False).state_dict()
    state = load_file(whole / "weights.safetensors")
    moved = [name for name, tensor in state.items() if not tensor.equal(start[name].half())]
    assert any("trunk.blocks.30" in name for name in moved) and any("memory_attention" in name for name in moved)


def test_a_run_may_go_on_from_weights(whole, tmp_path, cache):
    start, phases = whole / "weights.safetensors", [(64, 2, 1, 1)]
    path = pretrain(workdir=tmp_path, seed=1, phases=phases, lr=1e-12, start_from=start, device="cpu", cache=cache)
    name = "image_encoder.trunk.blocks.5.mlp.layers.0.weight"
    assert load_file(path)[name].equal(load_file(start)[name])


def test_two_processes_draw_their_own_clips_and_end_at_one_model(tmp_path, cache):
    """Each process writes what it ended with; the first alone writes the log."""
    script = tmp_path / "both.py"
    script.write_text(
        "import os, sys, torch\nfrom pathlib import Path\n"
        "from rds_lib.pretraining import pretrain as module\nfrom rds_lib.training import loop\n"
        "folder, losses, prompted_loss = Path(sys.argv[1]), [], module.prompted_loss\n"
        "def watched(*args, **options):\n"
        "    loss = prompted_loss(*args, **options)\n    losses.append(loss[0].item())\n    return loss\n"
        "module.prompted_loss, step = watched, loop.optimizer_step\n"
        "def seen(optimizer, parameters, **options):\n"
        "    torch.save((losses, [p.grad for p in parameters]), folder / f\"rank{os.environ['RANK']}.pt\")\n"
        "    return step(optimizer, parameters, **options)\n"
        "loop.optimizer_step = seen\n"
        f"module.pretrain(workdir=folder / 'run', seed=1, phases={PHASES}, lr=1e-3, drop_path=0.1, save_every=1,\n"
        f"                device='cpu', cache={str(cache)!r})\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, tmp_path]
    subprocess.run(
        command,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=True,
        capture_output=True,
        timeout=300,
    )
    (losses, grads), (other_losses, other_grads) = (torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1))
    assert len(losses) == 3 and not set(losses) & set(other_losses), "each process has its own clips"
    assert all(a.equal(b) for a, b in zip(grads, other_grads)), "and both step along the mean"
    assert [row["step"] for row in rows_of(tmp_path / "run")] == ["0", "1", "2"]
    build_model("mini", tmp_path / "run" / "weights.safetensors")


def test_the_model_of_half_the_depth_goes_on_from_its_own_weights(monkeypatch, tmp_path):
    called = {}

    def pretrain(*, workdir, config_file, start_from, **_):
        called[config_file] = start_from
        return export_weights({}, workdir / "weights.safetensors")

    monkeypatch.setattr(stage, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(stage, "pretrain", pretrain)
    params = load_params("smoke")
    for name in stage.SHIPPED:
        stage.train_model(params.with_section("pretrain", start_from=str(tmp_path)), name)
    assert called == {"mini": tmp_path / "mini_sam2.safetensors", "mini_half": tmp_path / "mini_sam2_half.safetensors"}
    for name in stage.SHIPPED:
        stage.train_model(params, name)
    assert called == {"mini": None, "mini_half": None}


def test_several_objects_of_a_clip_are_followed_as_if_each_were_alone(mini_model):
    """The features of a clip are made once; loss and IoU are the means over the objects."""
    set_image_size(mini_model, 64)
    images = torch.randn(2, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(3, 2, 64, 64)
    for n, where in enumerate((slice(5, 20), slice(30, 60), slice(10, 40))):
        targets[n, :, where, where] = 1
    owner = torch.tensor([0, 0, 1])

    def iou_of(images, targets, owner=None):
        generator = torch.Generator().manual_seed(1)
        return module.prompted_loss(mini_model, images, targets, generator, owner=owner, shares={"mask": 1.0})[1]

    apart = [iou_of(images[owner[n]][None], targets[n][None]) for n in range(3)]
    assert iou_of(images, targets, owner) == pytest.approx(sum(apart) / 3, abs=1e-5) and max(apart) > 0
    features = backbone_of(mini_model).run(backbone_of(mini_model).embed(images.transpose(0, 1).flatten(0, 1)))
    second = frame_by_frame(features, 2, owner)(1, None)["backbone_fpn"][0]
    assert second.equal(features["backbone_fpn"][0][[2, 2, 3]])


def test_every_tenth_video_of_the_list_is_held_out_and_never_trained_on(
    videos, cache, real_root, monkeypatch, tmp_path
):
    seen, opened = [], module.open_footage
    monkeypatch.setattr(module, "open_footage", lambda folder, videos: seen.extend(videos) or opened(folder, videos))
    chosen = []
    monkeypatch.setattr(module, "held_out_videos_iou", lambda model, videos: chosen.extend(videos) or 0.5)
    options = {"davis_root": real_root, "check_every": 1, "cache": cache, "device": "cpu"}
    pretrain(workdir=tmp_path, seed=1, phases=[(64, 2, 1, 1)], lr=1e-3, **options)
    assert [video.name for video in chosen] == [video.name for video in videos[::HELD_OUT_EVERY]] and len(chosen) == 2
    assert {video.name for video in seen} == {video.name for video in videos} - {video.name for video in chosen}
    assert [len(part) for part in split_held_out(videos)] == [10, 2]


def test_the_best_average_is_exported_not_the_last(train, tmp_path, monkeypatch):
    scores, kept = iter([0.5, 0.3]), []

    def score(model, videos):
        kept.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        assert not model.training
        return next(scores)

    monkeypatch.setattr(module, "held_out_videos_iou", score)
    state = load_file(train(tmp_path, save_every=100))
    best, last = ({name: tensor.half() for name, tensor in each.items()} for each in kept)
    assert all(state[name].equal(best[name]) for name in best) and any(
        not state[name].equal(last[name]) for name in last
    )
    assert [row["held_out"] for row in rows_of(tmp_path)] == ["", "0.5", "0.3"]


def test_looking_at_what_is_held_out_leaves_the_training_as_it_was(mini_model, videos):
    average = Averaged(mini_model, 0.9)
    for tensor in average.tensors.values():
        if tensor.is_floating_point():
            tensor.mul_(0.5)
    set_image_size(mini_model.train(), 64)
    before = {name: tensor.clone() for name, tensor in mini_model.state_dict().items()}
    torch.manual_seed(3)
    draw = torch.rand(2)
    torch.manual_seed(3)
    choice = Choice(mini_model, average, 5, 12, partial(held_out_videos_iou, sequences=videos[:1]))
    assert [choice.look(step) is not None for step in (4, 5, 11, 12)] == [False, True, False, True]
    assert mini_model.training and torch.rand(2).equal(draw)
    assert all(tensor.equal(before[name]) for name, tensor in mini_model.state_dict().items())
    again = Choice(mini_model, average, 5, 12, partial(held_out_videos_iou, sequences=videos[:1]))
    again.load_state_dict(choice.state_dict())
    assert again.score == choice.score and again.tensors.keys() == average.tensors.keys()


def test_a_video_is_scored_from_its_start_and_its_middle(mini_model, videos):
    assert list(held_out.windows(videos[:1], 4)) == [(videos[0], (0, 1, 2, 3)), (videos[0], (4, 5, 6, 7))]
    assert list(held_out.windows(videos[:1], 5)) == [(videos[0], (0, 1, 2, 3, 4))], "too short to count twice"
    set_image_size(mini_model, 64)
    first, second = held_out.look_at(mini_model, videos[:1], frames=4)
    assert first.targets.shape[:2] == (2, 4)
    assert second.targets.equal(held_out.fitted(videos[0], (4, 5, 6, 7), 64)[1])


def test_following_held_out_objects_together_or_alone_is_the_same(mini_model, videos):
    set_image_size(mini_model, 64)
    with torch.inference_mode():
        view = next(held_out.look_at(mini_model, videos[:1], frames=3))
        together = held_out.follow(mini_model, view)
        assert len(together) == 2 and all(0 <= value <= 1 for value in together)
        for n in range(2):
            encode = lambda t, previous: {k: [x[:1] for x in v] for k, v in view.encode(t, previous).items()}
            alone = held_out.follow(mini_model, held_out.View(encode, view.targets[n : n + 1]))
            assert alone == pytest.approx([together[n]], abs=1e-5)


def test_a_folder_without_real_videos_is_refused_before_training(tmp_path):
    with pytest.raises(RDSInputError, match="nothing-here"):
        pretrain(
            workdir=tmp_path / "run",
            seed=1,
            phases=PHASES,
            lr=1e-3,
            device="cpu",
            davis_root=str(tmp_path / "nothing-here"),
        )


def test_a_step_leaves_out_blocks_at_one_rate_and_keeps_those_that_must_run(mini_model):
    backbone, generator = backbone_of(mini_model), torch.Generator().manual_seed(0)
    routes = torch.tensor([draw_route(backbone, 0.3, generator) for _ in range(400)]).float()
    assert routes[:, [0, 2, 8, 44, 47]].all()
    free = [i for i in range(48) if i not in (0, 2, 8, 44, 47)]
    left_out = 1 - routes[:, free].mean(1)
    assert left_out.mean() == pytest.approx(0.15, abs=0.015) and left_out.std() > 0.08  # a fixed rate gives 0.05
    assert torch.tensor(draw_route(backbone, 0.0, generator)).all()


def test_frames_before_the_start_are_tracked_and_not_learnt_from():
    model = build_model("mini", ckpt_path=False)
    set_image_size(model, 64)
    clip = {"seed": 1, "split": "train", "batch": 2, "frames": 5, "size": 64, "first_step": 0, "steps": 1}
    images, targets = GeneratedBatches(**clip)[0]
    images.requires_grad_()
    losses = []

    def keep(outputs, truth):
        losses.append(truth)
        return sam2_loss(outputs, truth)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "sam2_loss", keep)
        generator = torch.Generator().manual_seed(3)
        module.prompted_loss(model, images, targets, generator, shares={"mask": 1.0}, start=3)[0].backward()
    assert [t for truth in losses for t in range(5) if truth.equal(targets[:, t])] == [3, 4, 0], "0: the still prompt"
    moved = images.grad.abs().flatten(2).sum(2) > 0
    assert moved.tolist() == [[False, False, False, True, True]] * 2


def test_every_second_step_runs_in_over_any_number_of_frames():
    starts = [module.draw_start(6, torch.Generator().manual_seed(seed)) for seed in range(300)]
    assert set(starts) == set(range(7)) and 120 < starts.count(0) < 180
    assert module.draw_start(0, torch.Generator()) == 0


def test_a_run_in_makes_clips_longer_and_not_what_is_learnt_from(train, tmp_path, monkeypatch):
    seen, learn = [], module.prompted_loss

    def watched(model, images, *args, start, **options):
        seen.append((images.shape[1], start))
        return learn(model, images, *args, start=start, **options)

    monkeypatch.setattr(module, "prompted_loss", watched)
    train(tmp_path, run_in=3, check_every=0)
    assert len(seen) == 3 and all(frames - start == 2 for frames, start in seen), seen
    assert {row["frames"] for row in rows_of(tmp_path)} == {"5"}


def test_weights_decay_on_matrices_only(mini_model):
    decayed, others = module.parameter_groups(mini_model, 1e-3, 0.1)
    assert decayed["weight_decay"] == 0.1 and all(p.dim() > 1 for p in decayed["params"])
    assert others["weight_decay"] == 0 and all(p.dim() <= 1 for p in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(mini_model.parameters()))


def test_every_step_with_a_mask_teaches_boxes_and_clicks_too():
    model = build_model("mini", ckpt_path=False)
    images, targets = GeneratedBatches(seed=1, split="train", batch=1, frames=2, size=64, first_step=0, steps=1)[0]
    set_image_size(model, 64)
    seen = set()
    for seed in range(8):
        model.zero_grad(set_to_none=True)
        generator = torch.Generator().manual_seed(seed)
        module.prompted_loss(model, images, targets, generator, shares={"mask": 1.0})[0].backward()
        grads = [e.weight.grad for e in model.sam_prompt_encoder.point_embeddings]
        seen |= {label for label, grad in enumerate(grads) if grad is not None and grad.any()}
    assert seen >= {1, 2, 3}, "foreground click, and both corners of a box"


def test_held_out_iou_is_repeatable_and_a_share(mini_model):
    set_image_size(mini_model, 64)
    options = {"seed": 2, "clips": 1, "frames": 2}
    first = held_out_iou(mini_model, **options)
    assert 0 <= first <= 1 and held_out_iou(mini_model, **options) == first


def test_weights_are_exported_in_half_precision(tmp_path):
    path = export_weights({"a": torch.tensor([0.1, 2.0])}, tmp_path / "w.safetensors")
    tensor = load_file(path)["a"]
    assert tensor.dtype == torch.float16 and tensor.equal(torch.tensor([0.1, 2.0]).half())
