"""Training the mini SAM2: the same weights whether or not it was stopped, and files that load again."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import ROOT
from rds_lib.data.batches import GeneratedBatches, SequenceBatches
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset
from rds_lib.data.writers import write_dataset
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.pipeline import pretrain as stage
from rds_lib.pipeline.params import load_params
from rds_lib.pretraining import pretrain as module
from rds_lib.pretraining.batches import REAL_SHARE, PretrainBatches
from rds_lib.pretraining.pretrain import draw_route, export_weights, held_out_iou, pretrain

PHASES = [(64, 2, 1, 2), (96, 2, 2, 1)]


def train(folder):
    return pretrain(workdir=folder, seed=1, phases=PHASES, lr=1e-3, drop_path=0.1, save_every=1, device="cpu")


def rows_of(folder):
    with open(folder / "log.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    train(folder)
    return folder


def test_a_stopped_run_ends_at_the_same_weights(whole, tmp_path, stopped_at):
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
    assert all(float(row["loss"]) > 0 and 0 <= float(row["iou"]) <= 1 for row in rows)


def test_a_finished_run_is_not_trained_again(whole, monkeypatch):
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


def test_a_run_may_go_on_from_weights(whole, tmp_path):
    start = whole / "weights.safetensors"
    path = pretrain(workdir=tmp_path, seed=1, phases=[(64, 2, 1, 1)], lr=1e-12, start_from=start, device="cpu")
    name = "image_encoder.trunk.blocks.5.mlp.layers.0.weight"
    assert load_file(path)[name].equal(load_file(start)[name])


def test_two_processes_draw_their_own_clips_and_end_at_one_model(whole, tmp_path):
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
        "                device='cpu')\n"
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
    monkeypatch.setattr(
        stage, "pretrain", lambda **options: called.update({options["config_file"]: options["start_from"]})
    )
    params = load_params("smoke")
    for name in stage.SHIPPED:
        stage.train_model(params.with_section("pretrain", start_from=str(tmp_path)), name)
    assert called == {"mini": tmp_path / "mini_sam2.safetensors", "mini_half": tmp_path / "mini_sam2_half.safetensors"}
    for name in stage.SHIPPED:
        stage.train_model(params, name)
    assert called == {"mini": None, "mini_half": None}


@pytest.fixture
def real_root(tmp_path):
    """A training list of one clip, in DAVIS's layout."""
    clips = [generate_clip(3, 0, split="val", frames=6, height=64, width=96, difficulty="plain", n_objects=1)]
    write_dataset(tmp_path / "davis", clips, layout="davis2017", split="train")
    return str(tmp_path / "davis")


def test_real_videos_take_their_share_of_the_batches(real_root):
    options = {"seed": 4, "batch": 1, "frames": 2, "size": 64}
    mixed = PretrainBatches(davis_root=real_root, first_step=0, steps=400, **options)
    kinds = [mixed.is_real(i) for i in range(400)]
    assert sum(kinds) / 400 == pytest.approx(REAL_SHARE, abs=0.07)
    videos = read_dataset(Path(real_root), layout="davis2017", split="train")
    video = SequenceBatches(videos, first_step=0, steps=400, vary=True, **options)
    generated = GeneratedBatches(split="train", first_step=0, steps=400, **options)
    for item in (kinds.index(True), kinds.index(False)):
        source = video if kinds[item] else generated
        assert all(a.equal(b) for a, b in zip(mixed[item], source[item]))
    step = kinds.index(True)
    resumed = PretrainBatches(davis_root=real_root, first_step=step, steps=1, **options)
    assert all(a.equal(b) for a, b in zip(resumed[0], mixed[step]))


def test_without_real_videos_all_batches_are_generated(real_root):
    """Steps that would show a real video show a generated clip."""
    options = {"seed": 4, "batch": 1, "frames": 2, "size": 64, "first_step": 0, "steps": 50}
    mixed, alone = PretrainBatches(davis_root=real_root, **options), PretrainBatches(**options)
    step = next(i for i in range(50) if mixed.is_real(i))
    generated = GeneratedBatches(split="train", **options)
    assert len(alone) == 50 and all(a.equal(b) for a, b in zip(alone[step], generated[step]))


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
