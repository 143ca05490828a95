"""What many tests share: a mini SAM2 with random weights, and a tiny generated set in the layout of DAVIS 2017."""

import copy

import pytest
import torch

from rds_lib.artifacts import write_tensors
from rds_lib.baselines.files import gated, prepare, save_baseline
from rds_lib.baselines.slimsam import save_slim
from rds_lib.clips import generate_clip
from rds_lib.datasets import read_dataset, write_dataset
from rds_lib.lora import add_lora, lora_state_dict, save_rds
from rds_lib.router import PredictionAwareRouter
from rds_lib.routing import always_on_blocks
from rds_lib.sam2_models import build_model


@pytest.fixture(scope="session")
def _random_mini():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model("mini", ckpt_path=False).requires_grad_(False)
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)  # never absent, so always routed
    return model


@pytest.fixture
def mini_model(_random_mini):
    """A frozen mini SAM2 with random weights, in evaluation mode; the test may change it."""
    return copy.deepcopy(_random_mini)


@pytest.fixture(scope="session")
def mini_weights(_random_mini, tmp_path_factory):
    """The same weights as a file, for everything that takes a checkpoint."""
    path = tmp_path_factory.mktemp("weights") / "mini.safetensors"
    write_tensors(path, _random_mini.state_dict())
    return path


@pytest.fixture(scope="session")
def rds_file(_random_mini, tmp_path_factory):
    """A router that tells frames apart and adapters on three blocks, both random, as one file for budget 0.5."""
    model = copy.deepcopy(_random_mini)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(1)
        add_lora(model, [0, 12, 44], rank=2)
        router = PredictionAwareRouter(16, 48, always_on_blocks(model.image_encoder.trunk), image_size=192)
        router.mlp[-1].weight.normal_(std=0.5)
        for tensor in lora_state_dict(model).values():
            tensor.normal_(std=0.02)
    path = tmp_path_factory.mktemp("weights") / "rds_0.5.safetensors"
    save_rds(path, router, model, budgets=[0.5], taus={0.5: 0.5})
    return path


@pytest.fixture(scope="session")
def davis_root(tmp_path_factory):
    """Three clips of five frames, 96x128 px; the last one has two objects. Split ``val``."""
    root = tmp_path_factory.mktemp("davis") / "set"
    kinds = [("plain", 1), ("fast_motion", 1), ("deformation", 2)]
    clips = [
        generate_clip(3, i, split="val", frames=5, height=96, width=128, difficulty=kind, n_objects=n)
        for i, (kind, n) in enumerate(kinds)
    ]
    write_dataset(root, clips, layout="davis2017", split="val")
    return root


@pytest.fixture(scope="session")
def sequences(davis_root):
    """The sequences of ``davis_root``."""
    return read_dataset(davis_root, layout="davis2017", split="val")


@pytest.fixture(scope="session")
def baselines_folder(_random_mini, tmp_path_factory):
    """Files of all four methods at level 0.5 (SlimSAM: 6/9, though nothing is pruned), with gates that split what they see."""
    folder = tmp_path_factory.mktemp("products") / "baselines"
    generator = torch.Generator().manual_seed(0)
    for method in ("pbd", "dyt", "adavit"):
        model = copy.deepcopy(_random_mini)
        options = {"method": method, "level": 0.5, "blocks": [0, 12, 44], "rank": 2, "reading": "A", "width": 4}
        prepare(model, **options)
        for module in gated(model):
            layer = module.dispatcher if method == "dyt" else module.policy[1]
            layer.weight.data.normal_(0, 1, generator=generator)
            layer.bias.data.normal_(0, 1, generator=generator)
        save_baseline(folder / method / "0.5.safetensors", model, options | {"threshold": 0.0, "config_file": "mini"})
    save_slim(folder / "slimsam" / "6.safetensors", _random_mini, {})
    return folder
