"""The state of a training on disk, the learning rate, the optimiser's step and the averaged weights."""

import csv
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from rds_lib.core.errors import RDSInputError
from rds_lib.training import run as training_run
from rds_lib.training.run import Averaged, TrainingRun, learning_rate, optimizer_step


def start(folder, total=5, save_every=2, **options):
    """A run over one number that grows by the step's number."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    return TrainingRun(folder, {"layer": layer}, total=total, save_every=save_every, **options), layer


def go_on(run, layer, stop):
    while run.step < stop:
        with torch.no_grad():
            layer.weight += run.step
        run.finish_step(value=layer.weight.item())


def log_of(folder):
    with open(folder / "log.csv", newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_a_run_that_was_stopped_goes_on_from_its_last_save(tmp_path):
    go_on(*start(tmp_path), stop=3)  # saved after step 2, then killed
    run, layer = start(tmp_path)
    assert run.step == 2 and layer.weight.item() == 1
    go_on(run, layer, stop=5)
    assert layer.weight.item() == 0 + 1 + 2 + 3 + 4
    assert start(tmp_path)[0].step == 5


def test_the_log_has_every_step_once(tmp_path):
    go_on(*start(tmp_path), stop=3)
    go_on(*start(tmp_path), stop=5)
    rows = log_of(tmp_path)
    assert [int(row["step"]) for row in rows] == [0, 1, 2, 3, 4]
    assert [float(row["value"]) for row in rows] == [0, 1, 3, 6, 10]


def test_the_last_step_is_saved_whatever_the_interval(tmp_path):
    go_on(*start(tmp_path, total=3, save_every=100), stop=3)
    assert start(tmp_path, total=3)[0].step == 3 and len(log_of(tmp_path)) == 3


def test_a_log_that_is_not_whole_is_written_anew_from_the_state(tmp_path):
    go_on(*start(tmp_path), stop=5)
    whole = (tmp_path / "log.csv").read_bytes()
    for damaged in (whole[:-3], whole.partition(b"\n")[0] + b"\n", b"", None):
        (tmp_path / "log.csv").unlink()
        if damaged is not None:
            (tmp_path / "log.csv").write_bytes(damaged)
        assert start(tmp_path)[0].step == 5 and (tmp_path / "log.csv").read_bytes() == whole


def test_a_stop_between_state_and_log_loses_no_line_and_doubles_none(tmp_path, stopped_at):
    with stopped_at(training_run, "write_text", 2):  # at the save after step 3
        go_on(*start(tmp_path), stop=5)
    assert len(log_of(tmp_path)) == 2, "the state knows of four steps"
    run, layer = start(tmp_path)
    assert run.step == 4 and [int(row["step"]) for row in log_of(tmp_path)] == [0, 1, 2, 3]
    go_on(run, layer, stop=5)
    assert [int(row["step"]) for row in log_of(tmp_path)] == [0, 1, 2, 3, 4]


def test_only_the_process_that_writes_mends_the_log(tmp_path):
    go_on(*start(tmp_path), stop=5)
    (tmp_path / "log.csv").unlink()
    assert start(tmp_path, writes=False)[0].step == 5 and not (tmp_path / "log.csv").exists()


def test_a_full_disk_is_one_line_and_the_old_state_stays(tmp_path, monkeypatch):
    go_on(*start(tmp_path), stop=2)
    state, log = ((tmp_path / name).read_bytes() for name in ("state.pt", "log.csv"))
    opened = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, mode="r": opened(Path("/dev/full") if self.suffix == ".pt" else self, mode)
    )
    with pytest.raises(RDSInputError, match=r"state\.pt: step 4 cannot be saved \(disk full\); the last state stays"):
        go_on(*start(tmp_path), stop=5)
    monkeypatch.undo()
    assert ((tmp_path / "state.pt").read_bytes(), (tmp_path / "log.csv").read_bytes()) == (state, log)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clock.json", "log.csv", "state.pt"]


def test_equal_trainings_have_states_of_equal_bytes(tmp_path):
    for name in "ab":
        go_on(*start(tmp_path / name), stop=5)
    assert (tmp_path / "a" / "state.pt").read_bytes() == (tmp_path / "b" / "state.pt").read_bytes()


@pytest.mark.parametrize("content", [b"", b"not a state", None])
def test_a_state_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "state.pt"
    if content is None:
        torch.save({"step": 2, "something else": {}}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(RDSInputError, match="state.pt.*delete its folder"):
        start(tmp_path)
    assert path.exists()


def test_a_state_that_carries_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"step": 1, "layer": Trap()}, tmp_path / "state.pt")
    with pytest.raises(RDSInputError, match="state.pt"):
        start(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_a_held_rate_does_not_depend_on_the_end_and_then_falls_to_the_floor():
    short, long = ([learning_rate(step, total, 2.0, warm_up=10, hold=0.5) for step in range(40)] for total in (80, 200))
    assert short == long and short[10] == short[39] == 2.0
    rates = [learning_rate(step, 80, 2.0, warm_up=10, hold=0.5) for step in range(40, 81)]
    assert all(after < before for before, after in zip(rates, rates[1:])) and rates[-1] == pytest.approx(0.1)


def test_learning_rate_warms_up_then_falls_to_its_floor():
    rates = [learning_rate(step, 100, 2.0, warm_up=10) for step in range(101)]
    assert rates[0] == pytest.approx(0.2) and rates[9] == pytest.approx(2.0, rel=0.03)
    assert all(b > a for a, b in zip(rates[:9], rates[1:10]))
    assert all(b < a for a, b in zip(rates[10:], rates[11:]))
    assert rates[50] == pytest.approx(2.0 * (0.05 + 0.95 / 2)) and rates[100] == pytest.approx(0.05 * 2.0)
    assert max(rates) <= 2.0


def test_gradients_are_clipped_before_the_step():
    weight = nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    weight.grad = torch.tensor([30.0, 40.0])
    assert optimizer_step(optimizer, [weight], clip_norm=1.0)
    assert torch.allclose(weight.detach(), torch.tensor([-0.6, -0.8]), atol=1e-4)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_with_a_gradient_that_is_not_finite_is_left_out(bad, caplog):
    weight = nn.Parameter(torch.ones(2))
    weight.grad = torch.tensor([bad, 1.0])
    assert not optimizer_step(torch.optim.SGD([weight], lr=1.0), [weight], clip_norm=1.0)
    assert weight.tolist() == [1, 1] and "not finite" in caplog.text


def test_the_average_follows_the_module_faster_at_the_start_and_resumes():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    average = Averaged(layer, decay=0.5)
    nn.init.ones_(layer.weight)
    average.update(layer)
    assert average.tensors["weight"].item() == pytest.approx(0.9)  # decay 1/10 at first
    other = Averaged(layer, decay=0.5)
    other.load_state_dict(average.state_dict())
    nn.init.zeros_(layer.weight)
    other.update(layer)
    assert other.tensors["weight"].item() == pytest.approx(0.9 * 2 / 11) and other.updates == 2
    for _ in range(30):
        other.update(layer)
    before = other.tensors["weight"].item()
    nn.init.ones_(layer.weight)
    other.update(layer)
    assert other.tensors["weight"].item() == pytest.approx(0.5 * before + 0.5)


def test_a_state_is_saved_when_minutes_have_passed_too(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("rds_lib.training.run.time.monotonic", lambda: now[0])
    run, _ = start(tmp_path, total=9, save_every=100, save_minutes=2)
    for seconds, saved in ((119, False), (1, True), (119, False), (1, True)):
        (tmp_path / "state.pt").unlink(missing_ok=True)
        now[0] += seconds
        run.finish_step(loss=1.0)
        assert (tmp_path / "state.pt").exists() == saved


def test_an_average_is_resumed_in_place():
    """So that it stays on the device it was made on."""
    average = Averaged(torch.nn.Linear(2, 2), 0.9)
    held = dict(average.tensors)
    average.load_state_dict({"tensors": {name: tensor + 1 for name, tensor in held.items()}, "updates": 4})
    assert average.updates == 4 and all(average.tensors[name] is tensor for name, tensor in held.items())
