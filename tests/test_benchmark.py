import json

import numpy as np
import pandas as pd
import pytest
import torch
from hydra.utils import instantiate
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from rds_lib import benchmark, probes
from rds_lib.__main__ import app
from rds_lib.artifacts import read_table
from rds_lib.errors import RDSInputError
from rds_lib.lora import save_rds
from rds_lib.macs import block_macs
from rds_lib.params import load_params
from rds_lib.router import PredictionAwareRouter
from rds_lib.routing import always_on_blocks
from rds_lib.sam2_models import build_model, load_config

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
        patch.setattr("rds_lib.params.load_params", {"smoke": _params()}.get)
        patch.setattr(benchmark, "MINI_WEIGHTS", out / "absent.safetensors")
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


def test_a_video_too_short_for_the_protocol_is_refused(tmp_path):
    from PIL import Image

    Image.new("RGB", (64, 64)).save(tmp_path / "00000.jpg")
    arm = benchmark.Arm("full", build_model("mini", False))
    with pytest.raises(RDSInputError, match="1 frames; 1 to warm up and 4 to time need 7"):
        benchmark.benchmark_predictors([arm], tmp_path, {1: np.ones((64, 64), bool)}, warmup=1, frames=4, repeats=1)
