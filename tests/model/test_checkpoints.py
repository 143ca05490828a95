"""SAM2's own sizes through both formats of file, and which weights a model and a file of RDS rest on."""

import json
import os
import warnings

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from rds_lib.core.errors import RDSInputError
from rds_lib.data import origin
from rds_lib.data.checkpoints import read_checkpoint
from rds_lib.data.origin import UNKNOWN, file_sha256, tensors_sha256
from rds_lib.model.adapters import add_lora
from rds_lib.model.backbone import backbone_of, origin_of
from rds_lib.model.sam2 import MINI_WEIGHTS, build_model, weights_of
from rds_lib.routing.build import MINI_RDS, build_rds_video_predictor
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import load_rds, save_rds, set_taus
from rds_lib.work.finished import digest

SMALLER = [  # than 1024 px, to be quick; no weight changes shape
    "++model.image_size=256",
    "++model.memory_attention.layer.self_attention.feat_sizes=[16,16]",
    "++model.memory_attention.layer.cross_attention.feat_sizes=[16,16]",
]


def masks_of(predictor, video):
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, box=[20, 20, 70, 70])
    return torch.stack([logits for _, _, logits in predictor.propagate_in_video(state)])


@pytest.mark.parametrize("version", ["sam2", "sam2.1"])
def test_an_official_model_comes_back_from_both_formats(version, tmp_path, davis_root):
    config, video = f"configs/{version}/{version}_hiera_t.yaml", davis_root / "JPEGImages" / "480p" / "val-0000-plain"
    options = {"device": "cpu", "hydra_overrides_extra": SMALLER}
    torch.manual_seed(0)
    made = build_rds_video_predictor(config, False, **options)
    torch.nn.init.constant_(made.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)  # it sees something
    state, expected = made.state_dict(), masks_of(made, str(video))
    assert len(expected) == 5 and expected.std() > 0
    training = {"optimizer": {"state": {}, "param_groups": []}, "epoch": 3, "loss": {"core": 0.5}, "time_elapsed": 9}
    torch.save({"model": state} | training, tmp_path / "tiny.pt")
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "tiny.safetensors")
    found = []
    for name in ("tiny.pt", "tiny.safetensors"):
        predictor = build_rds_video_predictor(config, tmp_path / name, **options)
        assert torch.equal(masks_of(predictor, str(video)), expected), "what stands beside the weights changes nothing"
        found.append(origin_of(predictor))
        assert (found[-1].config, found[-1].checkpoint) == (config, name)
        assert found[-1].sha256 == digest(tmp_path / name)
    assert found[0].sha256 != found[1].sha256 and found[0].tensors_sha256 == found[1].tensors_sha256
    other = f"configs/{'sam2' if version == 'sam2.1' else 'sam2.1'}/"
    other += f"{other.split('/')[1]}_hiera_t.yaml"
    with pytest.raises(RDSInputError, match=f"does not fit config '{other}': its tensors are those of '{config}'"):
        build_rds_video_predictor(other, tmp_path / "tiny.safetensors", device="cpu")


def test_the_tensors_hash_is_of_values_whatever_their_file_and_precision(tmp_path):
    half = {name: tensor.half() for name, tensor in load_file(MINI_WEIGHTS).items()}
    full = {name: tensor.float() for name, tensor in half.items()}
    save_file(half, tmp_path / "half.safetensors")
    save_file(full, tmp_path / "full.safetensors")
    torch.save({"model": dict(reversed(full.items())), "epoch": 3}, tmp_path / "full.pt")
    origins = [weights_of("mini", tmp_path / name) for name in ("half.safetensors", "full.safetensors", "full.pt")]
    assert len({one.sha256 for one in origins}) == 3 and len({one.tensors_sha256 for one in origins}) == 1
    name = min(full)
    for change in ({name: full[name] + 1e-3}, {name: full[name][None]}, {name + "x": full[name]}):
        assert tensors_sha256(full | change) != origins[0].tensors_sha256


def test_a_file_is_hashed_once_and_again_after_a_change(tmp_path, monkeypatch):
    path, hashed = tmp_path / "a.bin", []
    monkeypatch.setattr(origin, "digest", lambda file: hashed.append(file) or digest(file))
    path.write_bytes(b"one")
    assert file_sha256(path) == file_sha256(path) == digest(path) and len(hashed) == 1
    path.write_bytes(b"two!")
    assert file_sha256(path) == digest(path)
    path.write_bytes(b"six!")
    os.utime(path, (1, 1))
    assert file_sha256(path) == digest(path) and len(hashed) == 3
    monkeypatch.setattr(origin, "tensors_sha256", lambda state: hashed.append(state) or tensors_sha256(state))
    (tmp_path / "w.safetensors").write_bytes(MINI_WEIGHTS.read_bytes())
    found = [origin_of(build_model("mini", tmp_path / "w.safetensors")) for _ in range(2)]
    assert found[0] == found[1] == weights_of("mini", tmp_path / "w.safetensors") and len(hashed) == 5


def test_a_model_says_which_weights_it_has(mini_model, mini_weights):
    assert origin_of(build_model("mini")).checkpoint == MINI_WEIGHTS.name
    assert origin_of(build_model("mini")).tensors_sha256 == tensors_sha256(read_checkpoint(MINI_WEIGHTS))
    assert (origin_of(mini_model).checkpoint, origin_of(mini_model).sha256) == ("random weights", None)
    adapted = add_lora(build_model("mini", mini_weights), [1], rank=2)
    assert origin_of(adapted) == weights_of("mini", mini_weights)
    bare = type("Model", (), {"blocks": torch.nn.ModuleList()})()
    assert origin_of(bare) == UNKNOWN
    with pytest.raises(RDSInputError, match="does not exist"):
        weights_of("mini", "nothing.pt")


@pytest.fixture
def trained(mini_weights, tmp_path):
    """A file of RDS that was trained on ``mini_weights``."""
    model = add_lora(build_model("mini", mini_weights), [1], rank=2)
    save_rds(tmp_path / "rds.safetensors", PredictionAwareRouter.for_backbone(backbone_of(model)), model, budgets=[0.5])
    set_taus(tmp_path / "rds.safetensors", {0.5: 0.5})
    return tmp_path / "rds.safetensors"


def test_a_file_of_rds_holds_the_hash_of_its_base_weights(trained, mini_weights):
    assert load_rds(trained).base_sha256 == weights_of("mini", mini_weights).tensors_sha256
    assert load_rds(MINI_RDS).base_sha256 is None, "older files hold none"


def test_other_base_weights_than_those_of_the_training_are_told_once(trained, mini_weights):
    own, here = load_rds(trained).base_sha256, weights_of("mini").tensors_sha256
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("default")
        for _ in range(3):
            build_rds_video_predictor("mini", None, trained, budget=0.5, device="cpu")
    (line,) = [str(one.message) for one in told if "was trained on" in str(one.message)]
    assert f"{trained}: was trained on weights with SHA-256 {own[:12]}" in line
    assert f"those of {MINI_WEIGHTS.name} have {here[:12]}" in line
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_rds_video_predictor("mini", mini_weights, trained, budget=0.5, device="cpu")
        build_rds_video_predictor("mini", None, MINI_RDS, budget=0.5, device="cpu")
        build_rds_video_predictor("mini", False, trained, budget=0.5, device="cpu")


@pytest.mark.parametrize("value", ["x" * 64, "0" * 63, 3, ["0" * 64]])
def test_a_hash_that_is_none_is_refused(trained, value, tmp_path):
    with safe_open(trained, framework="pt") as file:
        meta = json.loads(file.metadata()["rds"]) | {"base_sha256": value}
    save_file(load_file(trained), tmp_path / "other.safetensors", metadata={"rds": json.dumps(meta)})
    with pytest.raises(RDSInputError, match="other.safetensors: its header cannot be used .base_sha256 = "):
        load_rds(tmp_path / "other.safetensors")
