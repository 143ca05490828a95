"""A video without an end: memory, time and bits of a session; and what several objects cost.

    python benchmarks/stream.py long [--frames 10000] [--budget 0.6]     two objects; minutes for each 1,000 frames
    python benchmarks/stream.py objects [--counts 1 2 5 10 20]           one by one, and in one batch
    python benchmarks/stream.py crowd [--frames 300] [--objects 20]

The video is a generated clip of 240 frames, 320x180 px, played there and back for ever, with new noise on every frame;
no file is read. Times are the process's own CPU time and the wall's, medians over a window of frames; run it with
OMP_NUM_THREADS=1 beside other work. Each part prints a table in Markdown.
"""

import argparse
import itertools
import os
import time
from collections.abc import Iterator
from datetime import date
from statistics import median

import numpy as np
import psutil
import torch
from tqdm import tqdm

from rds_lib import build_rds_video_predictor
from rds_lib.data.clips import generate_clip
from rds_lib.pipeline.machine import machine_facts

SIZE = {"height": 180, "width": 320}
SAME = 500  # frames whose logits are compared with those of a session that keeps everything
WINDOW = 100  # frames before a mark over which times are taken
TITLES = {"long": "A video without an end", "objects": "More and more objects", "crowd": "Many objects for a while"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["long", "objects", "crowd"])
    parser.add_argument("--frames", type=int)
    parser.add_argument("--objects", type=int, default=20)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 5, 10, 20])
    parser.add_argument("--budget", type=float)
    options = parser.parse_args()
    predictor = build_rds_video_predictor("mini", budget=options.budget, device="cpu")
    print(f"# {TITLES[options.part]}\n")
    budget = "all blocks" if options.budget is None else f"budget {options.budget:g}"
    versions = f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32, {machine_facts()['processor']}"
    print(f"Mini SAM2, {budget}, 320x180 px; {versions}; {date.today()}.\n")
    if options.part == "long":
        long(predictor, options.frames or 10_000)
    elif options.part == "objects":
        objects(predictor, options.counts)
    else:
        crowd(predictor, options.objects, options.frames or 300)


def endless(n_objects: int = 2) -> tuple[Iterator[np.ndarray], np.ndarray]:
    """Frames without an end, and the label map of the first one."""
    clip = generate_clip(5, 2, split="val", frames=240, difficulty="plain", n_objects=n_objects, **SIZE)
    there_and_back = [*range(len(clip.frames)), *range(len(clip.frames) - 2, 0, -1)]

    def frames():
        for t, k in enumerate(itertools.cycle(there_and_back)):
            noise = np.random.default_rng(t).integers(-6, 7, clip.frames[k].shape, dtype=np.int16)
            yield np.clip(clip.frames[k] + noise, 0, 255).astype(np.uint8)

    return frames(), clip.masks[0]


def long(predictor, length: int) -> None:
    """Resident memory and time a frame at frame 1,000 and at the end; then the first frames against a whole history."""
    frames, first = endless()
    prompts, marks = prompts_of(first), {max(WINDOW, length // 10), length}
    wall, cpu = [], []
    print(
        "| frame | resident MiB | CPU ms a frame | wall ms a frame | objects seen |\n|---|---|---|---|---|", flush=True
    )
    with predictor.start() as session:
        for t, frame in enumerate(tqdm(itertools.islice(frames, length), total=length, mininterval=30), start=1):
            began, used = time.perf_counter(), time.process_time()
            result = session.step(frame, prompts if t == 1 else None)
            wall.append(time.perf_counter() - began)
            cpu.append(time.process_time() - used)
            wall, cpu = wall[-WINDOW:], cpu[-WINDOW:]
            if t in marks or t % 1000 == 0:
                seen = int((result.mask_logits > 0).flatten(1).any(1).sum())
                times = f"{1000 * median(cpu):.1f} | {1000 * median(wall):.1f}"
                print(f"| {t} | {resident():.1f} | {times} | {seen} |", flush=True)
    same = min(SAME, length)
    frames, _ = endless()
    with predictor.start() as bounded, predictor.start(history=None) as whole:
        equal = 0
        for t, frame in enumerate(itertools.islice(frames, same)):
            given = prompts if t == 0 else None
            equal += torch.equal(bounded.step(frame, given).mask_logits, whole.step(frame, given).mask_logits)
    print(f"\n{equal} of {same} frames have the logits of a session that keeps everything, bit for bit")


def objects(predictor, counts: list[int], length: int = 32) -> None:
    """Milliseconds a frame with more and more objects, one by one and in one batch, and the line through them."""
    print("| objects | one by one, ms | in one batch, ms | ratio | largest difference of logits: next frame | later |")
    print("|---|---|---|---|---|---|", flush=True)
    rows = []
    for count in counts:
        times, apart = step_times(predictor, count, length)
        rows.append((count, *times))
        print(
            f"| {count} | {times[0]:.1f} | {times[1]:.1f} | {times[1] / times[0]:.2f} | {apart[1]:.1e} "
            f"| {max(apart):.1e} |",
            flush=True,
        )
    for name, column in (("one by one", 1), ("in one batch", 2)):
        slope, fixed = np.polyfit([row[0] for row in rows], [row[column] for row in rows], 1)
        print(f"\n{name}: {fixed:.1f} ms + {slope:.1f} ms an object", end="")
    print()


def step_times(predictor, count: int, length: int) -> tuple[list[float], list[float]]:
    """Median CPU milliseconds of a step, one by one and in one batch, taken in turns; and how far logits lie apart."""
    frames, first = endless()
    times, apart = ([], []), []
    with predictor.start() as alone, predictor.start() as batched:
        for t, frame in enumerate(itertools.islice(frames, length)):
            logits = []
            for session, at_once, taken in ((alone, 1, times[0]), (batched, count, times[1])):
                predictor.objects_at_once, began = at_once, time.process_time()
                logits.append(session.step(frame, crowd_of(count, first) if t == 0 else None).mask_logits)
                taken.append(time.process_time() - began)
            apart.append(float((logits[0] - logits[1]).abs().max()))
    predictor.objects_at_once = 1
    return [1000 * median(taken[8:]) for taken in times], apart


def crowd(predictor, count: int, length: int) -> None:
    """Many objects through some hundred frames, in batches of ten."""
    frames, first = endless()
    predictor.objects_at_once = 10
    print("| frame | resident MiB | CPU ms a frame |\n|---|---|---|", flush=True)
    with predictor.start() as session:
        times = []
        for t, frame in enumerate(itertools.islice(frames, length), start=1):
            began = time.process_time()
            session.step(frame, crowd_of(count, first) if t == 1 else None)
            times = [*times, time.process_time() - began][-20:]
            if t == 1 or t % (length // 5) == 0:
                print(f"| {t} | {resident():.1f} | {1000 * median(times):.1f} |", flush=True)


def prompts_of(labels: np.ndarray) -> dict[int, np.ndarray]:
    """A mask for each object of a label map."""
    return {int(i): labels == i for i in np.unique(labels) if i}


def crowd_of(count: int, labels: np.ndarray) -> dict[int, np.ndarray]:
    """Masks of as many objects as are wanted: the clip's own, then squares of a grid."""
    prompts, (height, width) = prompts_of(labels), labels.shape
    for k in range(len(prompts), count):
        mask = np.zeros((height, width), bool)
        y, x = 8 + 42 * (k // 6 % 4), 8 + 52 * (k % 6)
        mask[y : y + 30, x : x + 36] = True
        prompts[100 + k] = mask
    return dict(itertools.islice(prompts.items(), count))


def resident() -> float:
    """Resident memory of this process, MiB."""
    return psutil.Process(os.getpid()).memory_info().rss / 2**20


if __name__ == "__main__":
    main()
