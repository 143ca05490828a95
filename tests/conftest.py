"""What many tests share: a mini SAM2 with random weights, a tiny set in DAVIS 2017's layout, made-up products."""

import copy
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest
import torch
from chromium import chromium, shot  # noqa: F401

from rds_lib import load_params
from rds_lib.core.artifacts import write_json, write_table, write_tensors
from rds_lib.data.clips import generate_clip
from rds_lib.data.datasets import read_dataset, write_dataset
from rds_lib.data.images import save_palette_png
from rds_lib.methods import METHODS
from rds_lib.methods.slimsam import save_slim
from rds_lib.model.adapters import add_lora, lora_state_dict
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.model.shape import EncoderShape
from rds_lib.pipeline import kept
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import save_rds


@pytest.fixture(scope="session")
def _random_mini():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model("mini", ckpt_path=False).requires_grad_(False)
    torch.nn.init.constant_(
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0
    )  # never absent, so always routed
    return model.half().float()  # numbers that files keep as they are


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
        router = PredictionAwareRouter.for_backbone(backbone_of(model))
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
    """Files of all four methods at level 0.5 (SlimSAM: 6/9, nothing pruned), with gates that split what they see."""
    folder = tmp_path_factory.mktemp("products") / "baselines"
    generator = torch.Generator().manual_seed(0)
    for method in (METHODS["pbd"], METHODS["dyt"], METHODS["adavit"]):
        model = copy.deepcopy(_random_mini)
        options = {"level": 0.5, "blocks": [0, 12, 44], "rank": 2, "reading": "A", "width": 4}
        method.prepare(model, **options)
        for module in method.gates(model):
            *_, layer = module.decider.modules()
            layer.weight.data.normal_(0, 1, generator=generator)
            layer.bias.data.normal_(0, 1, generator=generator)
        path = folder / method.name / "0.5.safetensors"
        method.save(path, model, **options, threshold=0.0, config_file="mini")
    save_slim(folder / "slimsam" / "6.safetensors", _random_mini, {})
    return folder


@pytest.fixture(scope="session")
def figure_products(davis_root, sequences, tmp_path_factory):
    """Parameters and made-up products of all that figures need: SAM2's masks are the truth, RDS's lie 4 px aside."""
    folder, names = tmp_path_factory.mktemp("figures") / "smoke", [sequence.name for sequence in sequences]
    params = (
        load_params("smoke")
        .with_section("data", generated=False, davis_root=str(davis_root))
        .with_section("evaluation", datasets=["davis"])
    )
    params = params.with_section("figures", videos=names[:2], compared=names[2:], budget=0.4).with_section(
        "inspect", videos=names, runs=["SAM2", "RDS 0.4"]
    )
    for sequence in sequences:
        for t, stem in enumerate(sequence.frame_names):
            labels = sum((obj * mask for obj, mask in sequence.masks(t).items()), np.zeros(sequence.size, int)).astype(
                np.uint8
            )
            for run, aside in (("SAM2", 0), ("RDS_0.8", 4), ("RDS_0.4", 4)):
                path = folder / "evaluation" / "predictions" / "davis" / run / sequence.name / f"{stem}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                save_palette_png(path, np.roll(labels, aside, axis=1))
    write_table(
        folder / "evaluation" / "predictions" / "davis" / "runs.csv",
        pd.DataFrame(
            [("SAM2", "SAM2", 1.0), ("RDS_0.8", "RDS", 0.8), ("RDS_0.4", "RDS", 0.4)],
            columns=["folder", "method", "level"],
        ),
    )
    block, frame = np.arange(48), np.arange(5)
    routes = pd.MultiIndex.from_product(
        [names, (0.8, 0.4), frame, block], names=["sequence", "level", "frame_idx", "block"]
    ).to_frame(index=False)
    always = np.isin(block, (0, 2, 8, 44, 47))
    forced = (routes["frame_idx"] == 0) | always[routes["block"]]
    ran = forced | ((routes["block"] + routes["frame_idx"]) % 10 < 10 * routes["level"])
    write_table(
        folder / "evaluation" / "routes.csv",
        routes.assign(
            active=ran,
            keep_prob=np.where(forced, 1.0, 0.3 + 0.4 * ran),
            reason=np.where(routes["frame_idx"] == 0, "first_frame", "routed"),
            dataset="davis",
            method="RDS",
        ),
    )
    write_json(folder / "evaluation" / "encoder.json", EncoderShape(48, (0, 2, 8, 44), (0, 2, 8, 44, 47)).as_dict())
    arms = (
        ("SAM2", 1.0, 0.8, 48),
        ("PBD", 0.4, 0.5, 24),
        ("RDS", 0.8, 0.75, 39),
        ("RDS", 0.4, 0.7, 22),
        ("plan A", 0.4, 0.6, 24),
        ("plan B", 0.4, 0.65, 24),
    )
    objects = pd.DataFrame(
        [
            (name, 1, quality - 0.1 * n, method, level, "davis")
            for method, level, quality, _ in arms
            for n, name in enumerate(names)
        ],
        columns=["sequence", "object", "JF", "method", "level", "dataset"],
    )
    write_table(folder / "evaluation" / "objects.csv", objects)
    table = pd.DataFrame(
        [
            ("davis", method, level, "JF", 100 * quality - 10, active, active - 1.0, active / 120)
            for method, level, quality, active in arms
        ],
        columns=["dataset", "method", "level", "metric", "value", "active_blocks", "active_blocks_routed", "gmacs"],
    )
    write_table(
        folder / "evaluation" / "table.csv",
        table.assign(ci_low=table["value"] - 2, ci_high=table["value"] + 3, sequences=3, objects=3),
    )
    write_table(
        folder / "evaluation" / "comparisons.csv",
        pd.DataFrame(
            {
                "dataset": "davis",
                "level": [0.8, 0.4],
                "against": "SAM2",
                "effect": [-5.0, -10.0],
                "ci_low": [-7.0, -13.0],
                "ci_high": [-3.0, -6.0],
            }
        ),
    )
    score = np.where(always, np.nan, block / 10)
    write_table(
        folder / "importance" / "importance.csv",
        pd.DataFrame(
            {
                "block": block,
                "global_score": score,
                "local_score": score[::-1],
                "always_on": always,
                "selected": always | (block % 3 == 0),
            }
        ),
    )
    timed = pd.DataFrame(
        {
            "method": ["SAM2", "full", "PBD", "RDS", "RDS"],
            "level": [1.0, 1.0, 0.4, 0.8, 0.4],
            "frame_ms": [20.0, 20.0, 12.5, 16.0, 10.0],
            "encoder_ms": 8.0,
            "fps": [50.0, 50.0, 80.0, 62.5, 100.0],
            "active_blocks": [48.0, 48.0, 23.0, 38.0, 21.0],
            "device": "CPU",
            "dtype": "float32",
        }
    )
    write_table(folder / "benchmark" / "table.csv", timed)
    frames = timed[["method", "level"]].assign(ms=timed["frame_ms"]).merge(pd.DataFrame({"frame": range(6)}), "cross")
    write_table(folder / "benchmark" / "frames.csv", frames.assign(**{"pass": 0}))
    return params, folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Nothing that a test has stages keep, patched as they may be, is ever found by a real run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "CACHE", tmp_path_factory.mktemp("cache"))
        yield


class Killed(BaseException):
    """Stands for a process that ends in the middle."""


@pytest.fixture(scope="session")
def stopped_at():
    """``with stopped_at(module, name, call):`` ends its block as a kill would, at a function's ``call``-th call."""

    @contextmanager
    def stop(module, name, call):
        original, calls = getattr(module, name), []

        def once_too_often(*args, **options):
            calls.append(1)
            if len(calls) == call:
                raise Killed
            return original(*args, **options)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            patch.setattr(module, name, once_too_often)
            yield

    return stop
