"""What many tests share: a mini SAM2 with random weights, and a tiny generated set in the layout of DAVIS 2017."""

import copy

import pytest
import torch

from rds_lib.artifacts import write_tensors
from rds_lib.clips import generate_clip
from rds_lib.datasets import read_dataset, write_dataset
from rds_lib.sam2_models import build_model


@pytest.fixture(scope="session")
def _random_mini():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_model("mini", ckpt_path=False).requires_grad_(False)


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
