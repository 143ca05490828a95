"""Training the baselines: what moves and what does not, thresholds that keep what they should, and files that come back."""

import csv

import pytest
import torch

from rds_lib.core.artifacts import write_tensors
from rds_lib.core.errors import RDSInputError
from rds_lib.data.batches import SequenceBatches
from rds_lib.methods import adavit, dyt, gated_training as training
from rds_lib.methods.files import load_baseline, prepare, save_baseline
from rds_lib.methods.gated_training import calibrate_gates, gate_rate, train_baseline
from rds_lib.model.sam2 import build_model, set_image_size

BLOCKS = [0, 5, 12, 44]
OPTIONS = {"seed": 1, "steps": 2, "batch": 1, "frames": 3, "lr_gate": 1e-2, "lr_lora": 1e-2, "lora_rank": 2, "width": 4, "device": "cpu"}


class Killed(Exception):
    """Stands for a process that ends in the middle."""


@pytest.fixture(scope="module")
def built():
    """Models that were trained; training happens at 64 px here."""
    with pytest.MonkeyPatch.context() as patch:
        models = []

        def build(*args, **kwargs):
            models.append(build_model(*args, **kwargs))
            set_image_size(models[-1], 64)
            return models[-1]

        patch.setattr(training, "build_model", build)
        yield models


def train(method, folder, sequences, weights, **changes):
    return train_baseline(method, 0.4, sequences=sequences, calibration=sequences[:1], blocks=BLOCKS, out=folder / "b.safetensors",
                          workdir=folder / "run", checkpoint=weights, save_every=1, **(OPTIONS | changes))


@pytest.fixture(scope="module", params=["pbd", "dyt", "adavit"])
def trained(request, built, sequences, mini_weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    path = train(request.param, folder, sequences, mini_weights)
    return request.param, path, built[-1], folder


def image():
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def test_only_adapters_and_the_methods_own_parts_are_trained(trained, mini_weights):
    method, _, model, _ = trained
    start = build_model("mini", mini_weights)
    torch.manual_seed(1)
    prepare(start, method, 0.4, blocks=BLOCKS, rank=2, width=4)
    moved = {name for (name, a), b in zip(model.named_parameters(), start.parameters(), strict=True) if not a.equal(b)}
    kinds = {"pbd": ("lora_",), "dyt": ("lora_", "dispatcher", "adapter"), "adavit": ("lora_", "policy")}[method]
    assert moved and all(any(kind in name for kind in kinds) for name in moved)
    assert all(any(kind in name for name in moved) for kind in kinds)


def test_a_file_brings_the_trained_model_back(trained, mini_weights):
    method, path, model, _ = trained
    other = build_model("mini", mini_weights)
    header = load_baseline(path, other)
    assert (header["method"], header["level"]) == (method, 0.4)
    assert not any("lora" in name for name in other.state_dict()) and not any(p.requires_grad for p in other.parameters())
    with torch.inference_mode():
        ours, theirs = (m.eval().forward_image(image())["backbone_fpn"] for m in (model, other))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs))
    assert len(other.image_encoder.trunk.blocks) == (24 if method == "pbd" else 48)


def test_the_log_tells_loss_iou_and_what_was_kept(trained):
    method, _, _, folder = trained
    with open(folder / "run" / "log.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["step"] for row in rows] == ["0", "1"] and all(float(row["loss"]) > 0 and 0 <= float(row["iou"]) <= 1 for row in rows)
    kept = [float(row["kept"]) for row in rows]
    assert kept == [1, 1] if method == "pbd" else all(0.5 < value < 1 for value in kept), "gates start nearly open"


@pytest.mark.parametrize("method", ["pbd", "dyt", "adavit"])
def test_half_precision_as_on_a_gpu_is_trained_and_tracked_in(method, mini_model):
    prepare(mini_model, method=method, level=0.5, blocks=BLOCKS, rank=2, reading="A", width=4)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    set_image_size(mini_model, 64)
    with torch.autocast("cpu", torch.bfloat16):
        for mode in (True, False):
            features = mini_model.train(mode).forward_image(images)["backbone_fpn"]
            assert all(level.isfinite().all() for level in features)


@pytest.mark.parametrize("method", ["dyt", "adavit"])
def test_a_stopped_run_ends_at_the_same_file(method, built, sequences, mini_weights, tmp_path, monkeypatch):
    whole = train(method, tmp_path / "whole", sequences, mini_weights)
    step_loss, calls = training._step_loss, []

    def once_too_often(*args):
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return step_loss(*args)

    monkeypatch.setattr(training, "_step_loss", once_too_often)
    with pytest.raises(Killed):
        train(method, tmp_path / "again", sequences, mini_weights)
    monkeypatch.setattr(training, "_step_loss", step_loss)
    torch.rand(3)
    assert train(method, tmp_path / "again", sequences, mini_weights).read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("method, level", [("dyt", 0.4), ("adavit", 0.6)])
def test_calibrated_gates_keep_what_the_level_asks_for(method, level, sequences, mini_weights):
    model = prepare(build_model("mini", mini_weights), method, level, blocks=BLOCKS, rank=2, width=4)
    set_image_size(model, 64)
    generator = torch.Generator().manual_seed(0)
    for module in training.gated(model):
        layer = module.dispatcher if method == "dyt" else module.policy[1]
        layer.weight.data.normal_(0, 1, generator=generator)
    data = SequenceBatches(sequences[:2], seed=3, batch=2, frames=3, size=64, first_step=0, steps=3)
    frames = torch.cat([data[i][0].flatten(0, 1) for i in range(3)]).split(1)
    rate = gate_rate(model, method, level)
    calibrate_gates(model.eval(), rate, frames)
    kept = []
    with torch.inference_mode():
        for frame in frames:
            model.forward_image(frame)
            kept += [module.gate.float().mean().item() for module in training.gated(model)]
    assert sum(kept) / len(kept) == pytest.approx(rate, abs=0.02)


def test_dyts_complete_pass_teaches_the_adapters_and_not_the_dispatchers(mini_weights, sequences, monkeypatch):
    """Without the pass with gates nothing pulls at a dispatcher."""
    model = prepare(build_model("mini", mini_weights), "dyt", 0.5, blocks=BLOCKS, rank=2, width=4)
    set_image_size(model, 64)
    data = SequenceBatches(sequences, seed=3, batch=1, frames=2, size=64, first_step=0, steps=1)
    with dyt.complete_model(model):
        training.clip_loss(model, training.frame_by_frame(training.encode_clips(model, data[0][0]), 1), data[0][1])[0].backward()
    mlp = model.image_encoder.trunk.blocks[5].mlp
    assert mlp.adapter[3].weight.grad.abs().sum() > 0 and mlp.dispatcher.bias.grad is None
    training._step_loss(model, "dyt", 0.5, *data[0], torch.Generator().manual_seed(0))[0].backward()
    assert mlp.dispatcher.bias.grad.abs().sum() > 0


def test_bad_requests_and_files_are_refused(mini_weights, tmp_path):
    model = build_model("mini", mini_weights)
    with pytest.raises(RDSInputError, match="'magic' is unknown"):
        prepare(model, "magic", 0.5, blocks=BLOCKS, rank=2)
    with pytest.raises(RDSInputError, match="level is 0.1"):
        prepare(model, "dyt", 0.1, blocks=BLOCKS, rank=2)
    with pytest.raises(RDSInputError, match="absent"):
        load_baseline(tmp_path / "absent.safetensors", model)
    write_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(RDSInputError, match="format is None"):
        load_baseline(tmp_path / "other.safetensors", model)
    prepare(model, "adavit", 0.5, blocks=BLOCKS, rank=2)
    header = {"method": "adavit", "level": 0.5, "blocks": BLOCKS, "rank": 2, "reading": "A", "width": 4, "threshold": 0.0}
    save_baseline(tmp_path / "a.safetensors", model, header | {"rank": 3})
    with pytest.raises(RDSInputError, match="does not fit"):
        load_baseline(tmp_path / "a.safetensors", build_model("mini", mini_weights))
    adavit.policies(model)[0].policy[1].bias.data.fill_(float("nan"))
    with pytest.raises(RDSInputError, match="NaN"):
        save_baseline(tmp_path / "nan.safetensors", model, header)
    assert not (tmp_path / "nan.safetensors").exists()
