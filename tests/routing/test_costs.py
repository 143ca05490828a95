"""Costs of blocks: by their shape, or timed once on a machine and then read."""

import json

import pytest
import torch

from rds_lib.model.backbone import HieraBackbone
from rds_lib.routing import costs
from rds_lib.routing.deployed import FoldedRouter
from rds_lib.routing.router import PredictionAwareRouter

CPU = torch.device("cpu")


@pytest.fixture
def parts(mini_model, tmp_path, monkeypatch):
    """Backbone and router of a mini SAM2, with a cache of this test alone and few frames."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in {"WARM_UP": 1, "FEWEST": 2, "REPEATS": 2}.items():
        monkeypatch.setattr(costs, name, value)
    backbone = HieraBackbone(mini_model)
    return backbone, FoldedRouter(PredictionAwareRouter.for_backbone(backbone))


@pytest.fixture
def counted(monkeypatch):
    """How often blocks were timed."""
    calls, inner = [], costs.measure
    monkeypatch.setattr(costs, "measure", lambda *given: calls.append(1) or inner(*given))
    return calls


def test_gmacs_are_those_of_the_blocks(parts):
    found = costs.gmacs_of(parts[0])
    assert found.blocks == tuple(macs / 1e9 for macs in parts[0].block_macs())
    assert sum(found.blocks) == pytest.approx(parts[0].gmacs()) and found.besides == 0


def test_every_part_of_a_frame_is_timed_and_no_block_is_left_watched(parts):
    found = costs.measure(*parts, CPU)
    assert len(found.blocks) == 48 and min(found.blocks) > 0 and found.router > 0 and found.fixed > 0
    assert found.besides == found.fixed + found.router and found.unit == "ms"
    assert not any("forward" in vars(block) for block in parts[0].blocks)


def test_the_fixed_part_is_the_frame_without_its_blocks(parts, monkeypatch):
    """On a clock that only blocks, embedding and neck move, by 3, 5 and 7 ms."""
    backbone, router = parts
    now = [0.0]

    def taking(ms, inner):
        first = [ms]  # calls take twice as long before they are warm

        def call(*args, **kwargs):
            now[0] += (ms + (first.pop() if first else 0)) / 1e3
            return inner(*args, **kwargs)

        return call

    monkeypatch.setattr("rds_lib.model.stopwatch.time.perf_counter", lambda: now[0])
    for block in backbone.blocks:
        monkeypatch.setattr(block, "forward", taking(3, block.forward))
    monkeypatch.setattr(backbone, "embed", taking(5, backbone.embed))
    monkeypatch.setattr(backbone._encoder.neck, "forward", taking(7, backbone._encoder.neck.forward))
    monkeypatch.setattr(router, "logits", taking(2, router.logits))
    found = costs.measure(backbone, router, CPU)
    assert found.blocks == pytest.approx((3.0,) * 48) and (found.fixed, found.router) == pytest.approx((12.0, 2.0))


def test_they_are_timed_once_and_then_read(parts, counted, tmp_path):
    first = costs.milliseconds_of(*parts, CPU)
    assert costs.milliseconds_of(*parts, CPU) == first and counted == [1]
    (file,) = (tmp_path / "rds_lib").iterdir()
    assert json.loads(file.read_text())["key"]["threads"] == torch.get_num_threads()


def test_other_numbers_threads_or_sizes_are_timed_anew(parts, counted, monkeypatch):
    costs.milliseconds_of(*parts, CPU)
    with torch.autocast("cpu", torch.bfloat16):
        costs.milliseconds_of(*parts, CPU)
    monkeypatch.setattr(torch, "__version__", "1.0")
    costs.milliseconds_of(*parts, CPU)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    costs.milliseconds_of(*parts, CPU)
    monkeypatch.setattr(parts[0], "block_macs", lambda: [1e6] * 48)
    costs.milliseconds_of(*parts, CPU)
    assert len(counted) == 5


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: "",
        lambda entry: "{",
        lambda entry: json.dumps(entry | {"blocks": entry["blocks"][1:]}),
        lambda entry: json.dumps(entry | {"blocks": [0.0] * 48}),
        lambda entry: json.dumps(entry | {"blocks": 3}),
        lambda entry: json.dumps(entry | {"fixed": -1}),
        lambda entry: json.dumps(entry | {"fixed": "x"}),
        lambda entry: json.dumps({name: value for name, value in entry.items() if name != "router"}),
        lambda entry: json.dumps(entry | {"key": {}}),
    ],
)
def test_a_damaged_file_is_made_again(parts, counted, tmp_path, damage, caplog):
    costs.milliseconds_of(*parts, CPU)
    (file,) = (tmp_path / "rds_lib").iterdir()
    file.write_text(damage(json.loads(file.read_text())))
    again = costs.milliseconds_of(*parts, CPU)
    assert counted == [1, 1] and "the blocks are timed again" in caplog.text and file.name in caplog.text
    assert costs.milliseconds_of(*parts, CPU) == again and len(counted) == 2


def test_a_cache_that_cannot_be_written_is_no_obstacle(parts, tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(costs.milliseconds_of(*parts, CPU).blocks) == 48 and "cannot be written" in caplog.text


def test_the_cache_is_in_the_place_for_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert costs.cache_folder() == tmp_path / "rds_lib"
    monkeypatch.setenv("HOME", str(tmp_path))
    for unset in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unset)
        assert costs.cache_folder() == tmp_path / ".cache" / "rds_lib"
