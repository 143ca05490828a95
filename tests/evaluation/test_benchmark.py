import json

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from rds_lib.__main__ import app
from rds_lib.core.artifacts import read_table
from rds_lib.core.errors import RDSInputError
from rds_lib.core.params import load_params
from rds_lib.evaluation import benchmark, probes, timed_arms
from rds_lib.evaluation.baseline_products import activity, load_into, watch_gates
from rds_lib.methods.adavit import policies
from rds_lib.methods.slimsam import fuse_attention, prune, save_slim, split_attention
from rds_lib.model.encoder import always_on_blocks
from rds_lib.model.macs import block_macs
from rds_lib.model.sam2 import build_model, load_config
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.routing.weights import save_rds

HIERA_L = "configs/sam2.1/sam2.1_hiera_l.yaml"


def _trunk_on_meta(config, monkeypatch):
    linspace = torch.linspace  # Hiera asks its drop-path rates for their values
    monkeypatch.setattr(torch, "linspace", lambda *args, **kwargs: linspace(*args, **kwargs, device="cpu"))
    with torch.device("meta"):
        return instantiate(load_config(config).model.image_encoder.trunk)


@pytest.mark.parametrize("size", [160, 128])  # at 160 px the windows are padded in two stages
def test_block_macs_equal_the_flop_counter(size, monkeypatch):
    trunk = _trunk_on_meta("mini", monkeypatch)
    counts = block_macs(trunk, size)
    tokens = torch.empty(1, size // 4, size // 4, trunk.blocks[0].dim, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        for block in trunk.blocks:
            tokens = block(tokens)
    assert 2 * sum(counts) == counter.get_total_flops()


def _flops(model, image):
    trunk = model.image_encoder.trunk
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        trunk(image)
    return counter.get_total_flops() - 2 * trunk.patch_embed.proj.weight.numel() * (model.image_size // 4) ** 2


@pytest.mark.parametrize("method, level", [("slimsam", 6), ("pbd", 0.5), ("dyt", 0.5), ("adavit", 0.5)])
def test_macs_of_what_a_baseline_runs_equal_the_flop_counter(method, level, baselines_folder, scored_slim):
    model = build_model("mini", False)
    path = scored_slim if method == "slimsam" else baselines_folder / method / f"{level}.safetensors"
    load_into(model, method, path)
    image = torch.randn(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    flops = _flops(model, image)
    with torch.inference_mode(), watch_gates(model) as seen:
        model.forward_image(image)
    ran, kept = activity(model, seen[0])
    if method in ("dyt", "adavit"):
        assert 0.1 < kept.mean() < 0.9
    decisions = sum(block.policy[1].weight.numel() for block in policies(model))
    assert 2 * (ran @ np.array(block_macs(model.image_encoder.trunk, 192, kept)) + decisions) == pytest.approx(flops)


@pytest.fixture(scope="module")
def scored_slim(tmp_path_factory):
    """A model pruned to 6/9 in both phases by random gradients."""
    model = build_model("mini", False)
    split_attention(model)
    kept = {}
    for phase in ("width", "bottleneck"):
        for p in model.image_encoder.parameters():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
        kept |= prune(model, phase, 6 / 9)
    fuse_attention(model)
    path = tmp_path_factory.mktemp("slim") / "6.safetensors"
    save_slim(path, model, kept)
    return path


def test_hiera_l_macs_are_those_of_the_specification(monkeypatch):
    trunk = _trunk_on_meta(HIERA_L, monkeypatch)
    gmacs = np.array(block_macs(trunk, 1024)) / 1e9
    transitions, global_ones = [2, 8, 44], [23, 33, 43]
    ordinary = np.delete(gmacs, transitions + global_ones)
    assert gmacs.sum() == pytest.approx(904.7, abs=0.05)
    assert gmacs[global_ones] == pytest.approx(35.6, abs=0.05)
    assert ((23 < gmacs[transitions]) & (gmacs[transitions] < 24)).all()
    assert ((16.4 < ordinary) & (ordinary < 17.6)).all()


def test_host_reads_count_each_copy_once_and_nothing_twice():
    x = torch.arange(6.0)
    with probes.HostReads() as reads:
        y = (x * 2).view(2, 3).sum(0)
        assert reads.count == 0
        values = y.cpu()
        assert bool(values[0] > 0) and values.tolist() and float(values.max())
        assert reads.count == 1
        (x + 1).amax().item()
    assert reads.count == 2


def test_stopwatch_adds_up_calls_and_leaves_no_trace():
    module = torch.nn.Identity()
    watch = probes.Stopwatch("cpu")
    with watch.watching(module, "forward", "part"):
        module(1)
        assert watch.read() == {}
        watch.enabled = True
        module(1), module(2)
        times = watch.read()
    assert set(times) == {"part"} and times["part"] > 0
    assert "forward" not in vars(module)


def _params(checkpoint=""):
    """The smoke profile with numbers that these tests know."""
    params = load_params("smoke")
    known = {"budgets": (0.5,), "frames": 4, "warmup": 1, "repeats": 1, "threads": 1}
    return params.model_copy(update={
        "benchmark": params.benchmark.model_copy(update=known),
        "model": params.model.model_copy(update={"config": "mini", "checkpoint": str(checkpoint)})})


@pytest.fixture(scope="module")
def forced(tmp_path_factory):
    """A short benchmark with random weights, through the command line."""
    out = tmp_path_factory.mktemp("benchmark")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rds_lib.core.params.load_params", {"smoke": _params()}.get)
        patch.setattr(timed_arms, "MINI_WEIGHTS", out / "absent.safetensors")
        patch.setenv("RDS_WORKDIR", str(out / "smoke"))
        result = CliRunner().invoke(app, ["benchmark", "--profile", "smoke", "--out", str(out), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    return out


def test_forced_routes_keep_as_many_blocks_as_the_budget_asks_for(forced):
    table = read_table(forced / "table.csv").set_index("arm")
    assert list(table.index) == ["SAM2", "full", "RDS_0.5"]
    assert list(table["routes"]) == ["none", "none", "forced"]
    assert list(table["active_blocks"]) == [48, 48, 26]  # 5 + 43 / 2 = 26.5
    assert list(table["counted_frames"]) == [4, 4, 4]
    assert table.loc["RDS_0.5", "gmacs"] < table.loc["full", "gmacs"]
    assert (table[["device", "dtype", "threads", "objects"]] == ["CPU", "float32", 1, 1]).all(axis=None)
    assert table["date"].str.fullmatch(r"\d{4}-\d\d-\d\d").all() and (table["torch"] == torch.__version__).all()


def test_routing_costs_one_copy_a_frame(forced):
    table = read_table(forced / "table.csv").set_index("arm")
    assert table["copies_per_frame"].to_dict() == {"SAM2": 0, "full": 0, "RDS_0.5": 1}


def test_ratios_follow_from_the_times_of_the_same_run(forced):
    table = read_table(forced / "table.csv").set_index("arm")
    blocks = read_table(forced / "blocks.csv")
    rds, full = table.loc["RDS_0.5"], table.loc["full"]
    own = blocks[blocks["arm"] == "RDS_0.5"].set_index("block").drop([0, 2, 8, 44, 47])
    saved = ((1 - own["activation"]) * own["block_ms"]).sum()
    assert (own["block_ms"] > 0).all()
    assert rds["eta"] == pytest.approx((full["frame_ms"] - rds["frame_ms"]) / saved, rel=1e-2)
    assert rds["speedup"] == pytest.approx(full["frame_ms"] / rds["frame_ms"], abs=1e-3)
    assert rds["speedup_ideal"] == pytest.approx(full["frame_ms"] / (full["frame_ms"] - saved), rel=1e-2)
    assert rds["router_share"] == pytest.approx(rds["router_ms"] / rds["frame_ms"], abs=1e-3)
    assert 0 < rds["router_ms"] < rds["encoder_ms"] and full["router_ms"] == 0
    assert np.isnan(full["eta"])


def test_block_times_add_up_to_the_median_of_their_sum():
    frames = [{"block 0": 1.0, "block 1": 9.0}, {"block 0": 9.0, "block 1": 1.0}, {"block 0": 1.0, "block 1": 1.0}]
    runner = benchmark._Runner(None, {}, None, probed=frames)
    assert list(benchmark._block_times(runner, 2)) == [5.0, 5.0]  # their medians are 1 and 1, the median sum is 10


def test_metrics_are_one_flat_mapping_of_numbers(forced):
    metrics = json.loads((forced / "metrics.json").read_text())
    assert metrics["RDS_0.5_active_blocks"] == 26
    assert all(isinstance(value, float) for value in metrics.values())
    assert "full_eta" not in metrics and "RDS_0.5_eta" in metrics


def test_trained_weights_of_the_profile_are_used_where_present(tmp_path):
    from safetensors.torch import save_file

    model = build_model("mini", False)
    torch.nn.init.constant_(model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    save_file({name: value.clone() for name, value in model.state_dict().items()}, tmp_path / "mini.safetensors")
    router = PredictionAwareRouter(16, 48, always_on_blocks(model.image_encoder.trunk), image_size=model.image_size)
    save_rds(tmp_path / "rds_0.5.safetensors", router, model, budgets=[0.5], taus={0.5: 1.1})
    params = _params(tmp_path / "mini.safetensors")
    table = benchmark.run_benchmark(params, tmp_path / "out", weights=tmp_path, device="cpu").set_index("arm")
    assert table.loc["RDS_0.5", "routes"] == "learned"
    assert table.loc["RDS_0.5", "active_blocks"] == 5  # its threshold lets none but the always-on blocks through
    blocks = pd.read_csv(tmp_path / "out" / "blocks.csv")
    assert list(blocks[(blocks["arm"] == "RDS_0.5") & (blocks["activation"] > 0)]["block"]) == [0, 2, 8, 44, 47]


def test_baselines_take_part_with_what_they_ran(tmp_path, mini_weights, baselines_folder):
    params = _params(mini_weights)
    params = params.model_copy(update={"baselines": params.baselines.model_copy(update={"levels": (0.5,), "ninths": (6,)})})
    table = benchmark.run_benchmark(params, tmp_path, baselines=baselines_folder, device="cpu").set_index("arm")
    assert list(table.index[3:]) == ["SlimSAM_0.667", "PBD_0.5", "DyT_0.5", "AdaViT_0.5", "mini_half"]
    assert table.loc[["PBD_0.5", "mini_half", "DyT_0.5"], "active_blocks"].tolist() == [28, 24, 48] and 5 < table.loc["AdaViT_0.5", "active_blocks"] < 48
    assert table.loc["PBD_0.5", "gmacs"] < table.loc["DyT_0.5", "gmacs"] and (table["fps"] > 0).all()
    assert table["eta"].notna().tolist() == [False, False, True, False, False, False, True, False], "the share of skipped time asks for skipped blocks"
    assert set(read_table(tmp_path / "blocks.csv")["arm"]) == set(table.index) - {"PBD_0.5", "mini_half"}
    assert "DyT_0.5_fps" in json.loads((tmp_path / "metrics.json").read_text())


def test_every_timed_frame_is_read_with_its_own_gates(monkeypatch):
    """Six frames were encoded since the prompt, the last three are timed; stock SAM2 does not encode the prompted frame again."""
    runner = benchmark._Runner(timed_arms.Arm("AdaViT_0.5", build_model("mini", False), 0.5, "blocks"), {}, None, gates=list(range(1, 7)))
    monkeypatch.setattr(benchmark, "activity", lambda _, gate: (np.full(48, gate), np.ones(48)))
    runner.finish(range(4, 7))
    assert [active[0] for active in runner.active] == [4, 5, 6]


def test_a_video_too_short_for_the_protocol_is_refused(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "00000.jpg")
    arm = timed_arms.Arm("full", build_model("mini", False))
    with pytest.raises(RDSInputError, match="1 frames; 1 to warm up and 4 to time need 7"):
        benchmark.benchmark_predictors([arm], tmp_path, {1: np.ones((64, 64), bool)}, warmup=1, frames=4, repeats=1)
