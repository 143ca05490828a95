"""The timing protocol: stock SAM2, the full encoder, RDS at every budget and the baselines, frame by frame in turn, in one run.

All arms take the same step before any takes the next, in an order that rotates, so that whatever else the machine does
meets all of them alike. Ratios are taken within the run. Encoder, router and blocks are timed on the same frames on a CPU,
where that is free; on a GPU on every other frame, whose own time is then not counted. ``SAM2`` and ``full`` run the same
code: how far ``speedup_vs_stock`` of ``full`` is from 1 tells how quiet the machine was, and how far to trust the rest.
"""

import datetime
import gc
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from rds_lib.core.artifacts import write_json, write_table
from rds_lib.core.errors import RDSInputError
from rds_lib.data.clips import Clip, generate_clip
from rds_lib.evaluation.baseline_products import activity, watch_gates
from rds_lib.evaluation.probes import HostReads, Stopwatch
from rds_lib.evaluation.timed_arms import FULL, STOCK, Arm, rds_arms, rival_arms
from rds_lib.model.macs import block_macs

SKIPPING = ("none", "learned", "forced", "blocks")
CLIP_INDEX = 4001  # of the validation split; no data set uses it
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
METRICS = (
    "frame_ms", "encoder_ms", "fps", "router_ms", "router_share", "active_blocks", "gmacs", "speedup", "speedup_ideal",
    "eta", "speedup_vs_stock", "copies_per_frame",
)


@dataclass
class _Runner:
    """One arm on its way through the clip."""

    arm: Arm
    state: dict
    watch: Stopwatch
    plain: list[float] = field(default_factory=list)  # ms of every timed frame that counts
    probed: list[dict[str, float]] = field(default_factory=list)  # ms by part
    active: list[np.ndarray] = field(default_factory=list)  # (L,) of every timed frame
    gmacs: list[float] = field(default_factory=list)
    gates: list = field(default_factory=list)  # of every frame since the prompt; see ``products.watch_gates``
    copies: int = 0

    def begin(self, prompts):
        self.arm.predictor.reset_state(self.state)
        self.gates.clear()
        for obj_id, mask in prompts.items():
            self.arm.predictor.add_new_mask(self.state, 0, obj_id, mask)
        self.steps = self.arm.predictor.propagate_in_video(self.state)
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

    def timed_step(self, *, probe):
        elapsed = self.step(probe=probe or self.watch.is_free)
        if probe or self.watch.is_free:
            self.probed.append(self.watch.read())
        if not probe or self.watch.is_free:
            self.plain.append(elapsed)

    def finish(self, timed: range):
        predictor = self.arm.predictor
        for t in timed:
            if self.arm.routes in ("learned", "forced"):
                active = kept = np.array(self.state["rds"].frames[t].active, float)
            else:
                active, kept = activity(predictor, self.gates[t - timed.stop])  # of the last frame it is the last
            self.active.append(active)
            self.gmacs.append(float(active @ np.array(block_macs(predictor.image_encoder.trunk, predictor.image_size, kept))) / 1e9)

    def part(self, name) -> float:
        """Median ms of a part over the probed frames; 0 if it never ran."""
        return float(np.median([times.get(name, 0.0) for times in self.probed]))


def benchmark_predictors(
    arms: Sequence[Arm], video: str | Path, prompts: Mapping[int, np.ndarray], *, warmup: int, frames: int, repeats: int,
    dtype: str = "float32",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Time predictors on one video, interleaved.

    Parameters
    ----------
    arms : sequence of Arm
        All on one device. One is called ``full`` and one ``SAM2``: what the ratios refer to.
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
    table : DataFrame, one row per arm
        ``frame_ms`` and ``frame_p99_ms`` over counted frames; ``encoder_ms`` (routing included) and ``router_ms``
        (router, copy and decision); ``speedup`` S = T / t, ``speedup_ideal`` and ``eta`` =
        (T - t) / sum over i not in K of (1 - a_i) c_i, with the times c_i of the full arm's own blocks, where whole blocks
        of the same encoder are skipped; ``gmacs`` of what ran; ``copies_per_frame`` that routing causes.
    blocks : DataFrame, one row per arm and block
        ``activation`` a_i, and of the full arm's block ``block_ms`` c_i and ``gmacs``, where the arm has the same blocks.
    """
    device = arms[0].predictor.device
    runners = [_Runner(arm, arm.predictor.init_state(str(video)), Stopwatch(device)) for arm in arms]
    length = runners[0].state["num_frames"]
    if length < warmup + frames + 2:
        raise RDSInputError(f"{video}: {length} frames; {warmup} to warm up and {frames} to time need {warmup + frames + 2}")
    for runner in runners:
        if runner.arm.predictor.image_size == runners[0].arm.predictor.image_size:
            runner.state["images"] = runners[0].state["images"]
    timed = range(warmup + 2, warmup + 2 + frames)
    with ExitStack() as stack, torch.autocast(device.type, DTYPES[dtype], enabled=dtype != "float32"):
        for runner in runners:
            _watch(runner, stack)
        stack.enter_context(_no_garbage_collection())
        for _ in range(repeats):
            gc.collect()
            _run_pass(runners, prompts, timed)
    return _summarise(runners, prompts, dtype)


@contextmanager
def _no_garbage_collection():
    """Keep collections, which take tens of ms with PyTorch loaded, from falling into one arm's frame."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _watch(runner, stack):
    predictor = runner.arm.predictor
    runner.gates = stack.enter_context(watch_gates(predictor))
    stack.enter_context(runner.watch.watching(predictor, "_get_image_feature", "encoder"))
    if hasattr(predictor, "timed_parts"):
        stack.enter_context(runner.watch.watching(*predictor.timed_parts()["router"], "router"))
    if runner.arm.name == FULL:
        for i, block in enumerate(predictor.image_encoder.trunk.blocks):
            is_compiled = getattr(block, "_compiled_call_impl", None) is not None
            stack.enter_context(runner.watch.watching(block, "_compiled_call_impl" if is_compiled else "forward", f"block {i}"))


def _run_pass(runners, prompts, timed):
    for runner in runners:
        runner.begin(prompts)
        runner.count_copies()
    for t in range(2, timed.stop):
        turn = t % len(runners)
        for runner in runners[turn:] + runners[:turn]:
            probe = (t - timed.start) % 2 == 1
            if t in timed:
                runner.timed_step(probe=probe)
            else:
                runner.step(probe=False)
    for runner in runners:
        runner.finish(timed)


def _summarise(runners, prompts, dtype):
    by_name = {runner.arm.name: runner for runner in runners}
    full, stock = by_name[FULL], by_name[STOCK]
    predictor = full.arm.predictor
    trunk = predictor.image_encoder.trunk
    block_ms = _block_times(full, len(trunk.blocks))
    gmacs = np.array(block_macs(trunk, predictor.image_size)) / 1e9
    arms, blocks = [], []
    for runner in runners:
        activation, skips = np.mean(runner.active, axis=0), runner.arm.routes in SKIPPING
        full_ms, frame_ms = np.median(full.plain), np.median(runner.plain)
        saved = float((1 - activation) @ block_ms) if skips else 0.0  # blocks of K always run and so add nothing
        arms.append({
            "arm": runner.arm.name, "budget": runner.arm.budget, "routes": runner.arm.routes, "objects": len(prompts),
            "frame_ms": frame_ms, "frame_p99_ms": np.percentile(runner.plain, 99), "encoder_ms": runner.part("encoder"),
            "fps": 1e3 / frame_ms, "router_ms": runner.part("router"), "router_share": runner.part("router") / frame_ms,
            "active_blocks": activation.sum(), "gmacs": np.mean(runner.gmacs),
            "speedup": full_ms / frame_ms, "speedup_ideal": full_ms / (full_ms - saved) if skips else np.nan,
            "eta": (full_ms - frame_ms) / saved if saved else np.nan,
            "speedup_vs_stock": np.median(stock.plain) / frame_ms, "copies_per_frame": runner.copies - full.copies,
            "image_size": runner.arm.predictor.image_size, "counted_frames": len(runner.plain), **_machine(predictor.device, dtype),
        })
        if len(activation) == len(gmacs):
            blocks.append(pd.DataFrame({"arm": runner.arm.name, "block": range(len(gmacs)), "activation": activation,
                                        "block_ms": block_ms, "gmacs": gmacs}))
    return pd.DataFrame(arms), pd.concat(blocks, ignore_index=True)


def _block_times(full, depth):
    """Median ms of every block, scaled to add up to the median of their sum: medians of skewed times fall short of it."""
    times = np.array([[frame[f"block {i}"] for i in range(depth)] for frame in full.probed])  # (frames, L)
    medians = np.median(times, axis=0)
    return medians * np.median(times.sum(1)) / medians.sum()


def _machine(device, dtype):
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, "dtype": dtype, "threads": torch.get_num_threads(), "torch": torch.__version__,
            "date": datetime.date.today().isoformat()}


def run_benchmark(
    params, out: str | Path, *, weights: str | Path | None = None, baselines: str | Path | None = None, device: str | None = None,
    compiled: bool = False,
) -> pd.DataFrame:
    """Time a profile's arms on a generated clip with one object, and write what was found.

    Writes ``table.csv`` and ``blocks.csv`` (see `benchmark_predictors`) and ``metrics.json``, one flat mapping of
    ``<arm>_<quantity>``. Nothing else in the project depends on them.

    Parameters
    ----------
    params : Params
        Sections ``benchmark``, ``model`` and ``clips`` (for the size of the frames).
    out : path
        Made if absent; the three files in it are replaced.
    weights : path, optional
        Folder of the stage ``train``. Without a file for a budget there, the shipped ones of "mini" serve; without
        these, a random router that keeps as many blocks as the budget asks for.
    baselines : path, optional
        Folder of the stages ``baseline``; the rows of the profile that have a file there take part, and the smaller models.
    device : str, optional
        CUDA if there is one, else the CPU. Runs in bfloat16 on CUDA, as SAM2 does, and in float32 on the CPU.
    compiled : bool
        SAM2 as ``vos_optimized``, and RDS likewise.
    """
    section, out = params.benchmark, Path(out)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(section.threads)
    try:
        arms = rds_arms(params, Path(weights) if weights else None, device, compiled=compiled) + rival_arms(params, baselines, device)
        clip = generate_clip(params.clips.seed, CLIP_INDEX, split="val", frames=section.warmup + section.frames + 2,
                             height=params.clips.height, width=params.clips.width, difficulty="plain", n_objects=1)
        with tempfile.TemporaryDirectory() as folder:
            _write_frames(clip, Path(folder))
            table, blocks = benchmark_predictors(
                arms, folder, {1: clip.masks[0] == 1}, warmup=section.warmup, frames=section.frames,
                repeats=section.repeats, dtype="bfloat16" if device.startswith("cuda") else "float32")
    finally:
        torch.set_num_threads(threads)
    write_table(out / "table.csv", table.round(4))
    write_table(out / "blocks.csv", blocks.round(4))
    numbers = table.set_index("arm")[list(METRICS)].astype(float).round(4)
    flat = {f"{arm}_{name}": value for arm, row in numbers.iterrows() for name, value in row.items()
            if np.isfinite(value) and (name in ("fps", "gmacs") or arm in (STOCK, FULL) or arm.startswith("RDS"))}
    write_json(out / "metrics.json", flat, schema=None)
    return table


def _write_frames(clip: Clip, folder: Path):
    for t, frame in enumerate(clip.frames):
        Image.fromarray(frame).save(folder / f"{t:05d}.jpg", quality=95)
