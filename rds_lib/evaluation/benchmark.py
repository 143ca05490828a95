"""The timing protocol: all arms in one run, a frame at a time.

All arms take a step before any takes the next, in an order that rotates, so that whatever else the machine does slows
all of them alike. Ratios are taken within the run. Encoder, router and blocks are timed on the same frames on a CPU,
where that is free; on a GPU on every other frame, whose own time then does not count. Every ratio refers to one model.
``full`` runs the same code with every block watched: how far its ``speedup`` is from 1 tells how far to trust the rest.
"""

import datetime
import gc
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.names import FULL, SAM2
from rds_lib.evaluation.probes import HostReads
from rds_lib.methods.activity import activity, watch_gates
from rds_lib.metrics.speed import drawn_times, spread
from rds_lib.model.backbone import backbone_of
from rds_lib.model.stopwatch import Stopwatch, typical

SKIPPING = ("none", "learned", "forced", "blocks")  # kinds that run the full encoder's blocks, or skip them whole
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass
class _Runner:
    """One arm on its way through the clip."""

    arm: Arm
    predictor: nn.Module
    state: dict
    watch: Stopwatch
    plain: list[float] = field(default_factory=list)  # ms of every timed frame that counts
    counted: list[tuple[int, int]] = field(default_factory=list)  # pass and frame of each
    probed: list[dict[str, float]] = field(default_factory=list)  # ms by part
    active: list[np.ndarray] = field(default_factory=list)  # (L,) of every timed frame
    gmacs: list[float] = field(default_factory=list)
    gates: list = field(default_factory=list)  # of every frame since the prompt; see `watch_gates`
    copies: int = 0

    def begin(self, prompts):
        self.predictor.reset_state(self.state)
        self.gates.clear()
        for obj_id, mask in prompts.items():
            self.predictor.add_new_mask(self.state, 0, obj_id, mask)
        self.steps = self.predictor.propagate_in_video(self.state)
        next(self.steps)  # the prompted frame, encoded already

    def count_copies(self):
        with HostReads() as reads:
            next(self.steps)
        self.copies = reads.count

    def step(self, *, probe):
        """Take one frame and return its ms."""
        self.watch.enabled = probe
        self.watch.synchronise()
        began = time.perf_counter()
        next(self.steps)
        self.watch.synchronise()
        return 1e3 * (time.perf_counter() - began)

    def timed_step(self, where, *, probe):
        elapsed = self.step(probe=probe or self.watch.is_free)
        if probe or self.watch.is_free:
            self.probed.append(self.watch.read())
        if not probe or self.watch.is_free:
            self.plain.append(elapsed)
            self.counted.append(where)

    def frames(self) -> pd.DataFrame:
        """The time of every frame that counts."""
        table = pd.DataFrame(self.counted, columns=["pass", "frame"]).assign(ms=self.plain)
        return table.assign(method=self.arm.method, level=self.arm.level)[["method", "level", "pass", "frame", "ms"]]

    def finish(self, timed: range):
        """Note what ran on the timed frames; gates that were seen last are those of the last frame."""
        backbone, is_routed = backbone_of(self.predictor), self.arm.kind in ("learned", "forced")
        table = self.predictor.route_table(self.state) if is_routed else None
        for t in timed:
            if is_routed:
                active, kept = table.loc[table["frame_idx"] == t, "active"].to_numpy(float), None
            else:
                active, kept = activity(self.predictor, self.gates[t - timed.stop])
            self.active.append(active)
            self.gmacs.append(backbone.gmacs(active, kept))

    def part(self, name) -> float:
        """Median ms of a part over the probed frames; 0 if it never ran."""
        return float(np.median([times.get(name, 0.0) for times in self.probed]))


def benchmark_predictors(
    arms: Sequence[Arm],
    video: str | Path,
    prompts: Mapping[int, np.ndarray],
    *,
    warmup: int,
    frames: int,
    repeats: int,
    dtype: str = "float32",
    reference: str = SAM2,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Time predictors on one video, interleaved.

    Parameters
    ----------
    arms : sequence of Arm
        Built one after the other, all on one device. ``reference``, to which ratios refer, and ``full`` are among them.
    video : path
        A folder of JPEG frames, at least ``warmup + frames + 2`` of them.
    prompts : mapping
        Object id -> (H, W) bool mask on frame 0.
    warmup, frames, repeats : int
        Of each of ``repeats`` passes, ``warmup`` frames are run untimed and then ``frames`` timed.
    dtype : str
        "float32", or the type of ``torch.autocast``.

    Returns
    -------
    table : DataFrame, one row per arm: ``method, level, kind`` and
        ``frame_ms``, ``frame_p99_ms`` of counted frames; ``encoder_ms`` (with routing), ``router_ms`` (with copy and
        decision); ``speedup`` S = T / t, T the reference's; where whole blocks are skipped ``saved_ms`` = sum over i
        not in K of (1 - a_i) c_i, ``speedup_ideal``, and ``eta`` = (T - t) / saved; S and eta with ``_low`` and
        ``_high``. ``gmacs`` are of what ran, ``copies_per_frame`` those of routing.
    blocks : DataFrame, one row per arm and block
        ``activation`` a_i, and ``full``'s ``block_ms`` c_i and ``gmacs``, for arms that have the same blocks.
    frames : DataFrame, one row per arm and counted frame: ``method, level, pass, frame, ms``
    """
    predictors = [arm.build() for arm in arms]
    device = predictors[0].device
    runners = [
        _Runner(arm, predictor, predictor.init_state(str(video)), Stopwatch(device))
        for arm, predictor in zip(arms, predictors, strict=True)
    ]
    length = runners[0].state["num_frames"]
    if length < warmup + frames + 2:
        raise RDSInputError(
            f"{video}: {length} frames; {warmup} to warm up and {frames} to time need {warmup + frames + 2}"
        )
    for runner in runners:
        if runner.predictor.image_size == runners[0].predictor.image_size:
            runner.state["images"] = runners[0].state["images"]
    timed = range(warmup + 2, warmup + 2 + frames)
    with ExitStack() as stack, torch.autocast(device.type, DTYPES[dtype], enabled=dtype != "float32"):
        for runner in runners:
            _watch(runner, stack)
        stack.enter_context(_no_garbage_collection())
        for number in range(repeats):
            gc.collect()
            _run_pass(runners, prompts, timed, number)
    return _summarise(runners, prompts, dtype, reference)


@contextmanager
def _no_garbage_collection():
    """Keep garbage collections, tens of ms with PyTorch loaded, out of any arm's frame."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _watch(runner, stack):
    predictor = runner.predictor
    runner.gates = stack.enter_context(watch_gates(predictor))
    stock = {"encoder": (predictor, "_get_image_feature")}  # SAM2's own predictor does not name its parts
    parts = predictor.timed_parts() if hasattr(predictor, "timed_parts") else stock
    for name, (owner, attribute) in parts.items():
        stack.enter_context(runner.watch.watching(owner, attribute, name))
    if runner.arm.method == FULL:
        stack.enter_context(runner.watch.watching_blocks(backbone_of(predictor).blocks))


def _run_pass(runners, prompts, timed, number):
    for runner in runners:
        runner.begin(prompts)
        runner.count_copies()
    for t in range(2, timed.stop):
        turn = t % len(runners)
        for runner in runners[turn:] + runners[:turn]:
            probe = (t - timed.start) % 2 == 1
            if t in timed:
                runner.timed_step((number, t), probe=probe)
            else:
                runner.step(probe=False)
    for runner in runners:
        runner.finish(timed)


def _summarise(runners, prompts, dtype, reference):
    by_method = {runner.arm.method: runner for runner in runners}
    full, stock = by_method[FULL], by_method[reference]
    frames = pd.concat([runner.frames() for runner in runners], ignore_index=True)
    drawn = drawn_times(frames, seed=0)
    backbone = backbone_of(full.predictor)
    block_ms, gmacs = _block_times(full, backbone.depth), np.array(backbone.block_macs()) / 1e9
    arms, blocks = [], []
    for runner in runners:
        arm, activation = runner.arm, np.mean(runner.active, axis=0)
        facts = {"method": arm.method, "level": arm.level, "kind": arm.kind, "objects": len(prompts)}
        times = _times(runner, full, stock, activation, block_ms)
        times |= _of_speed(runner, stock, times["saved_ms"], drawn)
        arms.append({**facts, **times, **_machine(runner.predictor.device, dtype)})
        if len(activation) == backbone.depth:
            columns = {"block": range(backbone.depth), "activation": activation, "block_ms": block_ms, "gmacs": gmacs}
            blocks.append(pd.DataFrame({"method": arm.method, "level": arm.level, **columns}))
    return pd.DataFrame(arms), pd.concat(blocks, ignore_index=True), frames


def _of_speed(runner, stock, saved, drawn):
    """How many times as fast as SAM2, and the share of the skipped time that is saved, with intervals over frames."""
    (whole, drawn_whole), (own, drawn_own) = (
        (np.median(one.plain), drawn[one.arm.method, one.arm.level]) for one in (stock, runner)
    )
    found = {
        "speedup": spread(whole / own, drawn_whole / drawn_own),
        "eta": spread((whole - own) / saved, (drawn_whole - drawn_own) / saved),
    }
    return {
        name + end: value for name, one in found.items() for end, value in zip(("", "_low", "_high"), one, strict=True)
    }


def _times(runner, full, stock, activation, block_ms):
    skips = runner.arm.kind in SKIPPING
    whole_ms, frame_ms = np.median(stock.plain), np.median(runner.plain)
    saved = float((1 - activation) @ block_ms) if skips else 0.0  # blocks of K always run and so add nothing
    return {
        "frame_ms": frame_ms,
        "frame_p99_ms": np.percentile(runner.plain, 99),
        "encoder_ms": runner.part("encoder"),
        "fps": 1e3 / frame_ms,
        "router_ms": runner.part("router"),
        "router_share": runner.part("router") / frame_ms,
        "active_blocks": activation.sum(),
        "gmacs": np.mean(runner.gmacs),
        "saved_ms": saved if saved else np.nan,
        "speedup_ideal": whole_ms / (whole_ms - saved) if skips else np.nan,
        "copies_per_frame": runner.copies - full.copies,
        "image_size": getattr(runner.predictor.image_size, "px", runner.predictor.image_size),
        "counted_frames": len(runner.plain),
    }


def _block_times(full, depth):
    """ms of every block."""
    return typical(np.array([[frame[f"block {i}"] for i in range(depth)] for frame in full.probed]))  # (frames, L)


def _machine(device, dtype):
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "device": name,
        "dtype": dtype,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": datetime.date.today().isoformat(),
    }
