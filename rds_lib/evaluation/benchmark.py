"""The timing protocol: all arms in one run, a frame at a time.

All arms take a step before any takes the next, in an order that rotates, so that whatever else the machine does slows
all of them alike. Ratios are taken within the run. Encoder, router and blocks are timed on the same frames on a CPU,
where that is free; on a GPU on every other frame, whose own time then does not count. Every ratio refers to one model.
``full`` runs the same code with every block watched: how far its ``speedup`` is from 1 tells how far to trust the rest.
"""

import datetime
import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.names import FULL, SAM2
from rds_lib.evaluation.runner import TAIL, Runner
from rds_lib.metrics.speed import Draws, realised, speedup
from rds_lib.model.backbone import backbone_of
from rds_lib.model.stopwatch import Stopwatch, typical

SKIPPING = ("none", "learned", "forced", "blocks")  # kinds that run the full encoder's blocks, or skip them whole
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def benchmark_predictors(
    arms: Sequence[Arm],
    clips: Mapping[str, tuple[str | Path, Mapping[int, np.ndarray]]],
    *,
    warmup: int,
    frames: int,
    repeats: int,
    dtype: str = "float32",
    reference: str = SAM2,
    copies: bool = True,
    after: Callable[[list[Runner]], None] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Time predictors on clips, interleaved: all arms take a clip before any takes the next.

    Parameters
    ----------
    arms : sequence of Arm
        Built one after the other, all on one device. ``reference``, to which ratios refer, and ``full`` are among them.
    clips : mapping of name to (video, prompts)
        A folder of JPEG frames, at least ``warmup + frames + 2`` of them, and on frame 0 object id -> (H, W) bool mask.
    warmup, frames, repeats : int
        Of each of ``repeats`` passes of a clip, ``warmup`` frames are run untimed and then ``frames`` timed.
    dtype, copies, after
        "float32" or the type of ``torch.autocast``. Whether to count the host's reads, for which compiled code is
        compiled anew. What to do with the runners at the end; they can take further frames of the last clip.

    Returns
    -------
    table : DataFrame, one row per arm: ``method, level, kind`` and
        ``frame_ms`` t (see `Draws`) and ``frame_p99_ms``; ``encoder_ms`` (with routing), ``router_ms`` (with copy and
        decision), of SAM2 those of `TAIL`; ``speedup`` S = T / t, T the reference's; where whole blocks are skipped
        ``saved_ms`` = sum over i not in K of (1 - a_i) c_i, ``speedup_ideal``, and ``eta`` = (T - t) / saved; S and eta
        with ``_low`` and ``_high``. ``gmacs`` are of what ran, ``copies_per_frame`` those of routing.
    blocks, frames : DataFrame, one row per arm and block, and one per arm and counted frame
        ``activation`` a_i, and ``full``'s ``block_ms`` c_i and ``gmacs``, for arms that have the same blocks. ``clip,
        pass, frame, ms``, ``active_blocks`` and ``saved_ms``.
    """
    predictors = [arm.build() for arm in arms]
    device = predictors[0].device
    runners = [Runner(arm, predictor, Stopwatch(device)) for arm, predictor in zip(arms, predictors, strict=True)]
    timed = range(warmup + 2, warmup + 2 + frames)
    with ExitStack() as stack, torch.autocast(device.type, DTYPES[dtype], enabled=dtype != "float32"):
        for runner in runners:
            runner.watch_parts(stack, blocks=runner.arm.method == FULL)
        stack.enter_context(_no_garbage_collection())
        for name, (video, prompts) in clips.items():
            _open(runners, video, timed)
            for number in range(repeats):
                gc.collect()
                _run_pass(runners, prompts, timed, (name, number), copies)
        if after is not None:
            after(runners)
    return _summarise(runners, max(map(len, (prompts for _, prompts in clips.values()))), dtype, reference)


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


def _open(runners, video, timed):
    """Give every arm a clip; those of one image size share its frames."""
    for runner in runners:
        runner.state = runner.predictor.init_state(str(video))
        if runner.predictor.image_size == runners[0].predictor.image_size:
            runner.state["images"] = runners[0].state["images"]
    length, first = runners[0].state["num_frames"], timed.start - 2
    if length < timed.stop:
        raise RDSInputError(f"{video}: {length} frames; {first} to warm up and {len(timed)} to time need {timed.stop}")


def _run_pass(runners, prompts, timed, where, copies):
    for runner in runners:
        runner.begin(prompts)
        runner.count_copies() if copies else runner.step(probe=False)
    for t in range(2, timed.stop):
        turn = t % len(runners)
        for runner in runners[turn:] + runners[:turn]:
            probe = (t - timed.start) % 2 == 1
            if t in timed:
                runner.timed_step((*where, t), probe=probe)
            else:
                runner.step(probe=False)
    for runner in runners:
        runner.finish(timed)


def _summarise(runners, objects, dtype, reference):
    full = next(runner for runner in runners if runner.arm.method == FULL)
    whole = next((runner.arm.method, runner.arm.level) for runner in runners if runner.arm.method == reference)
    backbone = backbone_of(full.predictor)
    block_ms, gmacs = _block_times(full, backbone.depth), np.array(backbone.block_macs()) / 1e9
    frames = pd.concat([one.frames(block_ms if one.arm.kind in SKIPPING else None) for one in runners])
    frames = frames.reset_index(drop=True)
    times = Draws(frames, seed=0)
    arms, blocks = [], []
    for runner in runners:
        arm, activation = runner.arm, np.mean(runner.active, axis=0)
        facts = {"method": arm.method, "level": arm.level, "kind": arm.kind, "objects": objects}
        facts |= _times(runner, full, times, whole) | _of_speed((arm.method, arm.level), times, whole)
        arms.append({**facts, **_machine(runner.predictor.device, dtype)})
        if len(activation) == backbone.depth:
            columns = {"block": range(backbone.depth), "activation": activation, "block_ms": block_ms, "gmacs": gmacs}
            blocks.append(pd.DataFrame({"method": arm.method, "level": arm.level, **columns}))
    return pd.DataFrame(arms), pd.concat(blocks, ignore_index=True), frames


def _of_speed(arm, times, whole):
    """How many times as fast as SAM2, and the share of the skipped time that is saved, with intervals over clips."""
    found = {"speedup": speedup(times, arm, over=whole), "eta": realised(times, arm, over=whole)}
    return {
        name + end: value for name, one in found.items() for end, value in zip(("", "_low", "_high"), one, strict=True)
    }


def _times(runner, full, times, whole):
    arm = runner.arm.method, runner.arm.level
    whole_ms, frame_ms, saved = times.typical[whole], times.typical[arm], times.mean("saved_ms")[arm]
    counted = [ms for *_, ms in runner.rows if np.isfinite(ms)]
    return {
        "frame_ms": frame_ms,
        "frame_p99_ms": np.percentile(counted, 99),
        "encoder_ms": runner.part("encoder"),
        **{f"{name}_ms": runner.part(name) for name in TAIL if hasattr(runner.predictor, TAIL[name])},
        "fps": 1e3 / frame_ms,
        "router_ms": runner.part("router"),
        "router_share": runner.part("router") / frame_ms,
        "active_blocks": np.mean(runner.active, axis=0).sum(),
        "gmacs": np.mean(runner.gmacs),
        "saved_ms": saved if saved else np.nan,
        "speedup_ideal": whole_ms / (whole_ms - saved) if runner.arm.kind in SKIPPING else np.nan,
        "copies_per_frame": runner.copies - full.copies,
        "image_size": getattr(runner.predictor.image_size, "px", runner.predictor.image_size),
        "counted_frames": len(counted),
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
