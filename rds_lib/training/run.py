"""The state of a training on disk: resume to the step, log, learning rate, averaged weights, several processes."""

import csv
import errno
import io
import logging
import math
import os
import time
from pathlib import Path

import torch
from torch import nn

from rds_lib.core.artifacts import atomic_write, write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.work.steps import Clock, Enough, is_enough
from rds_lib.work.together import join_processes as join_processes

log = logging.getLogger(__name__)


class TrainingRun:
    """Steps done, what to save, and the log of one training.

    Parameters
    ----------
    workdir : Path
        Receives ``state.pt``, which holds the log too, and ``log.csv``, written from it; a state there is resumed.
    parts : dict of objects with ``state_dict`` and ``load_state_dict``
        Everything that changes while training: modules, optimiser, averages.
    total, save_every : int
        Planned steps, and steps between two saves.
    save_minutes : float
        Save as well when the last save is so long ago.
    writes : bool
        False in all but one of several processes: they resume, and leave the files to the first.
    """

    def __init__(
        self,
        workdir: Path,
        parts: dict,
        *,
        total: int,
        save_every: int,
        save_minutes: float = math.inf,
        writes: bool = True,
    ):
        self.workdir, self.parts, self.total, self.save_every, self.writes = workdir, parts, total, save_every, writes
        self.step, self._rows, self._log, self._save_minutes, self._saved = 0, [], "", save_minutes, time.monotonic()
        workdir.mkdir(parents=True, exist_ok=True)
        self._clock = Clock(workdir)
        if (workdir / "state.pt").exists():
            self._resume()

    def finish_step(self, **row) -> None:
        """Count a step, log its numbers and save from time to time."""
        self._rows.append({"step": self.step, **row})
        self.step += 1
        late = time.monotonic() - self._saved >= 60 * self._save_minutes
        last = self.step == self.total or is_enough(self.step)
        if self.writes and (late or last or self.step % self.save_every == 0):
            self.save()
        if last and self.step < self.total:
            raise Enough

    def save(self) -> None:
        """Write the state with the log in it, in one go, and the log from it: a stop between the two is mended."""
        lines, path = io.StringIO(newline=""), self.workdir / "state.pt"
        for row in self._rows:
            writer = csv.DictWriter(lines, row, lineterminator="\n")
            if not self._log and not lines.tell():
                writer.writeheader()
            writer.writerow(row)
        self._log += lines.getvalue()
        state = {"step": self.step, "log": self._log, **{name: part.state_dict() for name, part in self.parts.items()}}
        try:
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                torch.save(state, file)  # not to a path: so a full disk is an OSError, and equal states equal bytes
            write_text(self.workdir / "log.csv", self._log)
            self._clock.save()
        except OSError as cause:
            why = "disk full" if cause.errno == errno.ENOSPC else cause.strerror or cause
            raise RDSInputError(
                f"{path}: step {self.step} cannot be saved ({why}); the last state stays: make room and start again"
            ) from cause
        if self._rows:
            log.info("step %d of %d: %s", self.step, self.total, self._rows[-1])
        self._rows, self._saved = [], time.monotonic()

    def _resume(self) -> None:
        path = self.workdir / "state.pt"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            for name, part in self.parts.items():
                part.load_state_dict(state[name])
            self.step, self._log = int(state["step"]), state["log"]
        except Exception as cause:
            raise RDSInputError(f"{path} is not a state of this training; delete its folder to start again") from cause
        if self.writes:
            write_text(self.workdir / "log.csv", self._log)
        log.info("resumed at step %d of %d from %s", self.step, self.total, path)


def learning_rate(step: int, total: int, peak: float, *, warm_up: int, hold: float = 0.0, floor: float = 0.05) -> float:
    """Linear warm-up to ``peak``, which holds for a share of the steps, then a cosine to ``floor * peak`` at the last.

    A training that holds its rate can be made longer from a state of that time, whose steps do not depend on the end.
    """
    past = (step / max(total, 1) - hold) / (1 - hold)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, past))))
    return peak * min(1.0, (step + 1) / max(warm_up, 1)) * (floor + (1 - floor) * cosine)


def optimizer_step(optimizer, parameters, *, clip_norm: float) -> bool:
    """Clip and step; leave the step out, and say so, where a gradient is not finite."""
    norm = nn.utils.clip_grad_norm_(parameters, clip_norm)
    if not norm.isfinite():
        log.warning("a gradient is not finite: step left out")
        return False
    optimizer.step()
    return True


def local_device() -> str:
    """This process's GPU, or the CPU where there is none."""
    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"


class Averaged:
    """Exponential moving average of a module's state, faster at the start."""

    def __init__(self, module: nn.Module, decay: float):
        self.decay, self.updates = decay, 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self.tensors[name].lerp_(tensor, 1 - decay)

    def state_dict(self):
        return {"tensors": self.tensors, "updates": self.updates}

    def load_state_dict(self, state):
        self.updates = state["updates"]
        for name, tensor in self.tensors.items():  # in place, so that they stay on their device
            tensor.copy_(state["tensors"][name])
