"""Processors, memory, disk, and whether the checkout may be written."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from rds_lib.core import paths
from rds_lib.core.threads import SMALL, THREADS, WORKERS, cpu_count
from rds_lib.data.output import check_writable
from rds_lib.pipeline.doctor.finding import ERROR, EVERY, OK, WARNING, Finding, size

GB = 10**9
OF_A_WORKER = 2 * GB  # what a process of a stage holds with a small model: 1.4 to 2.2
OF_A_LARGE_MODEL = 16 * GB
CLIP_BYTES, MASK_BYTES = 0.53, 0.05  # a pixel of a generated clip, and of a predicted mask with its rows in tables
WEIGHTS_BYTES = {"mini": 9.2e6, "mini_half": 6.5e6}
OFFICIAL_BYTES = 0.9e9  # of Hiera-L, the largest of SAM2's own
SLIM = 13.0  # weights' sizes that a level of SlimSAM leaves: states of its parts, weights, and a copy in DVC's cache
LIGHT, LIGHT_LARGE = 0.6, 0.1  # any other training: adapters and gates are a smaller share of a large model


def check_processors(config: str, environ: Mapping[str, str] = os.environ) -> Finding:
    """CPU cores, and what the user's own number of threads does to the stages."""
    cores, threads, workers = cpu_count(), environ.get(THREADS), environ.get(WORKERS)
    named = ", ".join(f"{key}={environ[key]}" for key in (THREADS, WORKERS) if key in environ)
    text = f"{cores} cores; {named or 'threads are left to the commands'}"
    if config in SMALL and threads is not None:
        if not (workers and workers.isdigit()) and threads == "1" and cores > 1:
            fix = f"unset {THREADS}, or export {WORKERS}={cores}"
            return Finding("processors", WARNING, f"{text}: stages use one core of {cores}", fix)
        if threads.isdigit() and int(threads) > 1:
            return Finding("processors", WARNING, f"{text}: slower than one thread a process", f"unset {THREADS}")
    return Finding("processors", OK, text)


def check_memory(config: str, workers: int, meminfo: Path = Path("/proc/meminfo")) -> Finding:
    """Memory that is free now, against what the processes of a stage hold."""
    free = _free_memory(meminfo)
    need = OF_A_WORKER * workers if config in SMALL else OF_A_LARGE_MODEL
    about = f"about {size(need)} for " + (
        f"{workers} process{'es' * (workers > 1)}" if config in SMALL else "a large model and its data"
    )
    if free is None:
        return Finding("memory", OK, f"how much is free is not known here; {about}")
    if free < need:
        fix = f"close other programs, or export {WORKERS}=1" if workers > 1 else "close other programs"
        return Finding("memory", WARNING, f"{size(free)} free, {about}", fix)
    return Finding("memory", OK, f"{size(free)} free, {about}")


def check_disk(params) -> Finding:
    """Free disk space, against an estimate of what a run of the profile writes."""
    parts = bytes_written(params)
    need, free = sum(parts.values()), shutil.disk_usage(paths.ROOT).free
    told = ", ".join(f"{name} {size(value)}" for name, value in parts.items())
    text = f"{size(free)} free, a run writes about {size(need)} ({told})"
    if free < need:
        return Finding("disk", ERROR, text, f"free {size(need - free)} on the disk of {paths.ROOT}", EVERY)
    if free < 2 * need:
        return Finding("disk", WARNING, text, "it fits; twice the estimate would be safe")
    return Finding("disk", OK, text)


def check_places() -> Finding:
    """Whether the folders that a run writes can be written."""
    folders = [paths.ROOT, paths.BUILD, paths.RUNS, paths.CACHE, *filter(Path.is_dir, [paths.ROOT / ".dvc"])]
    for folder in folders:
        check_writable(folder)  # raises
    return Finding("places to write", OK, f"{', '.join(map(paths.shown, folders))} can be written")


def bytes_written(params) -> dict[str, float]:
    """About how many bytes a run leaves: clips (in build, data and DVC's cache), products (twice) and trainings.

    From a run of profile mini: 95 MB of clips, 80 MB of products.
    """
    clips, levels, train = params.clips, params.baselines, params.train
    number = sum(
        v for key, v in clips.model_dump().items() if key not in ("seed", "frames", "height", "width", "photographs")
    )
    pixels = number * clips.frames * clips.height * clips.width
    masks = pixels * (1 + len(params.evaluation.budgets)) / 3  # a third or less of the clips validates
    weights = WEIGHTS_BYTES.get(params.model.config, OFFICIAL_BYTES)
    runs, kept, slim = (
        len(each) + len(train.more_seeds) * len(train.again(each))
        for each in (train.budgets, levels.levels, levels.ninths)
    )
    others = runs + 3 * kept + 6
    light = LIGHT if params.model.config in SMALL else LIGHT_LARGE
    trainings = weights * (SLIM * slim + light * others)
    return {"clips": 3 * CLIP_BYTES * pixels, "products": 2 * MASK_BYTES * masks + 2e7, "trainings": trainings}


def _free_memory(meminfo: Path) -> float | None:
    """Bytes that processes may still take, by the kernel and by the limit of a container."""
    lines = meminfo.read_text().splitlines() if meminfo.is_file() else []
    found = [1024 * float(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    group = Path("/sys/fs/cgroup")
    limit, used = ((group / name) for name in ("memory.max", "memory.current"))
    if found and limit.is_file() and used.is_file() and (most := limit.read_text().strip()).isdigit():
        found.append(float(most) - float(used.read_text()))
    return min(found, default=None)
