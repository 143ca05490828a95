"""Killed at random places, reading or writing, then run again: equal to an undisturbed run, and nothing left behind.

A child process kills itself at one of its calls to the file system; `benchmarks/kills.py` kills whole commands.
"""

import os
import random
import signal
import traceback
from pathlib import Path

import pytest
import torch
from torch import nn

from rds_lib import build_rds_video_predictor, load_params
from rds_lib.core.artifacts import write_tensors
from rds_lib.data.generate import generate_datasets
from rds_lib.pipeline.track import track_video
from rds_lib.training.run import TrainingRun
from rds_lib.work.finished import once

CALLS = ("open", "replace", "rename", "mkdir", "unlink", "fsync", "write", "rmdir")
OF_TIMES = ("inspector.html", ".rds-manifest.json", "clock.json")  # hold seconds


def in_child(work, folder: Path, last_call: float) -> int:
    """Do the work in a child that is killed at a call; returns how many it had made, or ends the test if it failed."""
    counter = folder.with_name(f"{folder.name}.calls")
    pid = os.fork()
    if pid == 0:
        try:
            torch.set_num_threads(1)
            made = _count_calls(last_call)
            work(folder)
            made.stop()
            counter.write_text(str(made.number))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == (0 if last_call == float("inf") else -signal.SIGKILL)
    return int(counter.read_text()) if status == 0 else 0


class _count_calls:
    def __init__(self, last):
        self.number, self.real = 0, {name: getattr(os, name) for name in CALLS}

        def counted(name):
            def call(*args, **options):
                self.number += 1
                if self.number >= last:
                    os.kill(os.getpid(), signal.SIGKILL)
                return self.real[name](*args, **options)

            return call

        def save(content, file):
            self.number += 1
            if self.number >= last:
                file.write(b"PK, and half a state")
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
            self.save(content, file)

        self.save, torch.save = torch.save, save
        for name in CALLS:
            setattr(os, name, counted(name))

    def stop(self):
        torch.save = self.save
        for name, function in self.real.items():
            setattr(os, name, function)


def content(folder: Path) -> dict:
    """Bytes of all files; of a state what it holds, as a state that was resumed is packed in another order."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name not in OF_TIMES]
    return {
        path.relative_to(folder).as_posix(): plain(torch.load(path, weights_only=True))
        if path.suffix == ".pt"
        else path.read_bytes()
        for path in files
    }


def plain(value):
    """Numbers, texts and lists of them, which can be compared."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, torch.Tensor) else value


def check(work, tmp_path, kills):
    """Kill the work ``kills`` times, each in a new folder, and run it again each time."""
    calls = in_child(work, tmp_path / "undisturbed", float("inf"))
    wanted, rng = content(tmp_path / "undisturbed"), random.Random(0)
    assert wanted and calls > kills
    for n, last in enumerate(sorted(rng.sample(range(1, calls + 1), kills))):
        folder = tmp_path / f"killed-{n}"
        in_child(work, folder, last)
        in_child(work, folder, float("inf"))
        assert content(folder) == wanted, f"killed at call {last} of {calls}"
        assert not [path for path in tmp_path.rglob("*") if path.name.startswith((".tmp-", ".lock-"))]


def train(folder):
    """Six steps, saved every second one, then the weights."""
    layer = nn.Linear(2, 2)
    nn.init.ones_(layer.weight)

    def make():
        optimizer = torch.optim.AdamW(layer.parameters())
        parts = {"layer": layer, "optimizer": optimizer}
        run = TrainingRun(folder / "run", parts, total=6, save_every=2)
        while run.step < run.total:
            optimizer.zero_grad()
            layer(torch.full((1, 2), float(run.step))).sum().backward()
            optimizer.step()
            run.finish_step(loss=layer.weight.sum().item())
        write_tensors(folder / "run" / "weights.safetensors", {"weight": layer.weight})

    torch.manual_seed(0)
    nn.init.zeros_(layer.bias)
    once(folder / "run", "weights.safetensors", make)


def test_a_training_that_was_killed_anywhere_ends_as_if_it_had_not_been(tmp_path):
    train(tmp_path / "before")  # what an optimiser imports with its first step
    check(train, tmp_path, kills=24)


def test_generated_data_that_was_killed_anywhere_ends_as_if_it_had_not_been(tmp_path):
    sizes = {"train": 1, "calibration": 0, "val": 1, "sav": 0, "ytvos": 1, "frames": 9, "height": 64, "width": 96}
    params = load_params("smoke")
    params = params.model_copy(update={"clips": params.clips.model_copy(update=sizes)})
    check(lambda folder: generate_datasets(params, folder / "out", overwrite=True, workers=1), tmp_path, kills=4)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_tracked_video_that_was_killed_anywhere_ends_as_if_it_had_not_been(
    is_there, mini_weights, rds_file, sequences, tmp_path
):
    predictor = build_rds_video_predictor("mini", mini_weights, rds_file, budget=0.5)
    frames, masks = sequences[0].frame_paths[:2], sequences[0].masks(0)
    video = tmp_path / "video"
    video.mkdir()
    for frame in frames:
        os.link(frame, video / frame.name)

    def track(folder):
        if is_there:  # an earlier result, which the new one replaces
            (folder / "out").mkdir(parents=True, exist_ok=True)
        prompts = {obj: {"mask": mask} for obj, mask in masks.items()}
        track_video(predictor, video, prompts, folder / "out", overlay_video=False, overwrite=True)

    check(track, tmp_path, kills=3)
