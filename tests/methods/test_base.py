"""What PBD, DyT and AdaViT share: what training moves, logs and files, stopped runs, and the tracker they run in."""

import copy
import csv

import numpy as np
import pytest
import torch

from rds_lib.core.artifacts import write_tensors
from rds_lib.core.errors import RDSInputError
from rds_lib.methods import METHODS, base, gates, method_of
from rds_lib.methods.base import Setup
from rds_lib.methods.gates import set_threshold
from rds_lib.model.sam2 import build_model, set_image_size
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.training.loop import Schedule

BLOCKS = [0, 5, 12, 44]
OPTIONS = {"reading": "A", "width": 4}
OWN_PARTS = {"pbd": ("lora_",), "dyt": ("lora_", "dispatcher", "adapter"), "adavit": ("lora_", "policy")}


@pytest.fixture(scope="module")
def built():
    """Models that were trained; training happens at 64 px here."""
    with pytest.MonkeyPatch.context() as patch:
        models = []

        def build(*args, **kwargs):
            models.append(build_model(*args, **kwargs))
            set_image_size(models[-1], 64)
            return models[-1]

        patch.setattr(base, "build_model", build)
        patch.setattr(gates, "CALIBRATION_PASSES", 2)
        yield models


def train(name, folder, sequences, weights):
    setup = Setup(
        Schedule(2, 1, 3, seed=1, save_every=1),
        sequences,
        sequences[:1],
        BLOCKS,
        2,
        1e-2,
        checkpoint=weights,
        device="cpu",
    )
    files = {"out": folder / "b.safetensors", "workdir": folder / "run"}
    return METHODS[name].train(0.4, setup, lr_gate=1e-2, **files, **OPTIONS)


@pytest.fixture(scope="module", params=["pbd", "dyt", "adavit"])
def trained(request, built, sequences, mini_weights, tmp_path_factory):
    """A method's name, its file, the trained model and the folder of the run."""
    folder = tmp_path_factory.mktemp(request.param)
    path = train(request.param, folder, sequences, mini_weights)
    return request.param, path, built[-1], folder


def test_only_adapters_and_the_methods_own_parts_are_trained(trained, mini_weights):
    name, _, model, _ = trained
    start = build_model("mini", mini_weights)
    torch.manual_seed(1)
    METHODS[name].prepare(start, 0.4, blocks=BLOCKS, rank=2, **OPTIONS)
    pairs = zip(model.named_parameters(), start.parameters(), strict=True)
    moved = {parameter for (parameter, a), b in pairs if not a.equal(b)}
    assert moved and all(any(part in parameter for part in OWN_PARTS[name]) for parameter in moved)
    assert all(any(part in parameter for parameter in moved) for part in OWN_PARTS[name])


def test_what_decides_learns_at_the_gates_rate(trained):
    name, _, _, folder = trained
    groups = torch.load(folder / "run" / "state.pt", weights_only=True)["optimizer"]["param_groups"]
    assert [group["peak"] for group in groups] == [1e-2] * (1 if name == "pbd" else 2)
    assert [len(group["params"]) for group in groups][1:] == {"pbd": [], "dyt": [48 * 2], "adavit": [43 * 4]}[name]


def test_a_file_brings_the_trained_model_back(trained, mini_weights):
    name, path, model, _ = trained
    other = METHODS[name].load(build_model("mini", mini_weights), path)
    assert not any("lora" in key for key in other.state_dict()) and not any(p.requires_grad for p in other.parameters())
    image = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours, theirs = (m.eval().forward_image(image)["backbone_fpn"] for m in (model, other))
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(ours, theirs))
    assert len(other.image_encoder.trunk.blocks) == (24 if name == "pbd" else 48)
    numbers = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert METHODS[name].trained_parameters(other, path) == numbers


def test_the_log_tells_loss_iou_and_what_was_kept(trained):
    name, _, _, folder = trained
    with open(folder / "run" / "log.csv", newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert [row["step"] for row in rows] == ["0", "1"]
    assert all(float(row["loss"]) > 0 and 0 <= float(row["iou"]) <= 1 for row in rows)
    kept = [float(row["kept"]) for row in rows]
    assert kept == [1, 1] if name == "pbd" else all(0.5 < value < 1 for value in kept), "gates start nearly open"


def test_a_stopped_run_ends_at_the_same_file(trained, sequences, mini_weights, tmp_path, stopped_at):
    name, whole, _, _ = trained
    with stopped_at(type(METHODS[name]), "step_loss", 2):
        train(name, tmp_path, sequences, mini_weights)
    torch.rand(3)
    assert train(name, tmp_path, sequences, mini_weights).read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("name", OWN_PARTS)
def test_half_precision_as_on_a_gpu_is_trained_and_tracked_in(name, mini_model):
    METHODS[name].prepare(mini_model, 0.5, blocks=BLOCKS, rank=2, **OPTIONS)
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    set_image_size(mini_model, 64)
    with torch.autocast("cpu", torch.bfloat16):
        for mode in (True, False):
            features = mini_model.train(mode).forward_image(images)["backbone_fpn"]
            assert all(level.isfinite().all() for level in features)


def test_bad_files_are_refused(mini_model, mini_weights, tmp_path):
    pbd, method = METHODS["pbd"], METHODS["adavit"]
    path = tmp_path / "a.safetensors"
    with pytest.raises(RDSInputError, match="absent"):
        method.load(mini_model, tmp_path / "absent.safetensors")
    write_tensors(path, {"a": torch.zeros(1)})
    with pytest.raises(RDSInputError, match="format None"):
        method.load(mini_model, path)
    header = {"level": 0.5, "blocks": BLOCKS, "rank": 2, **OPTIONS}
    method.prepare(mini_model, **header)
    method.save(path, mini_model, **header | {"rank": 3}, threshold=0.0)
    with pytest.raises(RDSInputError, match="holds 'adavit'.*expected 'pbd'"):
        pbd.load(build_model("mini", mini_weights), path)
    with pytest.raises(RDSInputError, match="does not fit"):
        method.load(build_model("mini", mini_weights), path)
    method.gates(mini_model)[0].policy[1].bias.data.fill_(float("nan"))
    with pytest.raises(RDSInputError, match="NaN"):
        method.save(tmp_path / "nan.safetensors", mini_model, **header, threshold=0.0)
    assert not (tmp_path / "nan.safetensors").exists()


def test_methods_stand_in_the_order_of_table_9_and_an_unknown_one_is_refused():
    assert [(method.label, method.kind, method.table_level(6)) for method in METHODS.values()] == [
        ("SlimSAM", "smaller", 0.667),
        ("PBD", "smaller", 6),
        ("DyT", "tokens", 6),
        ("AdaViT", "blocks", 6),
    ]
    with pytest.raises(RDSInputError, match="'magic' is unknown; choose one of slimsam, pbd, dyt, adavit"):
        method_of("magic")


@pytest.mark.parametrize("name", OWN_PARTS)
def test_the_same_predictor_tracks_with_every_baseline(name):
    frames = np.random.default_rng(0).integers(0, 255, (3, 48, 64, 3), np.uint8)
    predictor = build_rds_video_predictor("mini", False, routing="full", device="cpu", apply_postprocessing=False)
    head = predictor.sam_mask_decoder.pred_obj_score_head
    torch.nn.init.constant_(head.layers[-1].bias, 10.0)  # so that it sees an object
    stock = copy.deepcopy(predictor)
    METHODS[name].prepare(predictor, 0.4, blocks=BLOCKS, rank=2, **OPTIONS)
    set_threshold(predictor, 3.0)
    results = []
    for tracker in (predictor, stock):
        state = tracker.init_state(frames)
        tracker.add_new_mask(state, 0, 1, np.pad(np.ones((20, 30), bool), ((10, 18), (20, 14))))
        results.append([logits for _, _, logits in tracker.propagate_in_video(state)])
    assert len(results[0]) == 3 and all(x.isfinite().all() for x in results[0])
    assert any(not a.equal(b) for a, b in zip(*results)), "the baseline is in the loop"
