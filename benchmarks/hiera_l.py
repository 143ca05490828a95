"""Time SAM2.1 Hiera-L at its own size, with random weights and forced routes, which is enough for speed.

    python benchmarks/hiera_l.py --out reports/cpu [--size 512] [--threads 2] [--device cpu] [--engine eager]

Stock SAM2, our predictor in full and at each budget, SAM2.1-B+ and -S, interleaved, with one, two and five objects;
then the work of a frame, encoder time against active blocks, and whole videos. Saved after each part; the page of the
folder is made again each time. On a CPU nothing else should run meanwhile. A GPU runs in bfloat16 at 1024 px; see
`benchmarks/gpu.sh`. `--page` makes the page alone.
"""

import argparse
import datetime
import tempfile
from pathlib import Path

import torch

from rds_lib import load_params
from rds_lib.core.artifacts import write_json, write_text
from rds_lib.data.clips import write_timing_clip
from rds_lib.evaluation import full_size
from rds_lib.evaluation.benchmark import DTYPES
from rds_lib.evaluation.names import EAGER, FULL, SAM2, VOS
from rds_lib.evaluation.peaks import peaks_of
from rds_lib.evaluation.whole_videos import whole_videos
from rds_lib.pipeline.machine import machine_facts
from rds_lib.report.full_size import page

PARTS = ("frames", "work", "routes", "videos")
DEFAULTS = {  # by device; on two quiet CPU cores some 15 minutes
    "cpu": {"size": 512, "dtype": "float32", "warmup": 1, "frames": 1, "sweep": 40, "videos": 3, "video_repeats": 1},
    "cuda": {
        "size": 1024,
        "dtype": "bfloat16",
        "warmup": 15,
        "frames": 10,
        "sweep": 60,
        "videos": 40,
        "video_repeats": 3,
    },
}


def main():
    options = read_options()
    out = options.out
    if not options.page:
        torch.set_num_threads(options.threads)
        facts = machine_facts() | {"device": device_name(options.device), "threads": str(options.threads)}
        facts |= {"dtype": options.dtype, "image size": f"{options.size} px", "date": str(datetime.date.today())}
        write_json(out / "machine.json", facts)
        for engine in full_size.engines_of(options.engine, options.device):
            measure(options, engine)
    write_text(out / "README.md", page(out, options.device))


def read_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--config", default=full_size.LARGE, help="a model that takes Hiera-L's place, for a rehearsal")
    parser.add_argument("--engine", nargs="+", default=[EAGER], help="of our predictor; all: every one but eager")
    parser.add_argument("--vos-optimized", action="store_true", help="also time SAM2 as it compiles itself: minutes")
    parser.add_argument("--no-smaller", action="store_true", help="leave SAM2.1-B+ and -S out")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 2, 5])
    parser.add_argument("--budget", type=float, nargs="+", default=[0.8, 0.6, 0.4])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--page", action="store_true")
    for name in ("size", "warmup", "frames", "sweep", "videos", "video_repeats"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    parser.add_argument("--dtype", choices=DTYPES)
    options = parser.parse_args()
    for name, value in DEFAULTS[options.device].items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def device_name(device):
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def measure(options, engine):
    arms = full_size.full_size_arms(
        options.size,
        device=options.device,
        budgets=options.budget,
        engine=engine,
        stock=(SAM2, VOS) if options.vos_optimized else (SAM2,),
        smaller={} if options.no_smaller else full_size.SMALLER,
        config=options.config,
    )
    run = f"{engine} beside {VOS}" if options.vos_optimized else engine
    peaks = peaks_of(options.device, DTYPES[options.dtype])
    with tempfile.TemporaryDirectory() as folder:
        if set(options.parts) - {"videos"}:
            for objects in options.objects:
                time_objects(options, arms, run, objects, Path(folder) / str(objects), peaks)
        if "videos" in options.parts:
            clip = make_clip(Path(folder) / "whole", frames=options.videos, objects=1)
            table = whole_videos(arms, clip, dtype=options.dtype, repeats=options.video_repeats)
            save(options, "end_to_end", table, run=run)


def time_objects(options, arms, run, objects, folder, peaks):
    is_eager = run == EAGER

    def after(runners):
        if "work" in options.parts and is_eager:  # of compiled code nothing can be counted
            found = {"peak_tflops": peaks.flops / 1e12, "peak_gbytes": peaks.bytes / 1e9, "peak_source": peaks.source}
            save(options, "work", full_size.count_work(runners, peaks).assign(**found), objects=objects)
        if "routes" in options.parts and objects == options.objects[0]:
            save(options, "routes", full_size.sweep_routes(runners, options.sweep), run=run)

    frames = options.warmup + options.frames * options.repeats + 4 + options.sweep
    protocol = {name: getattr(options, name) for name in ("warmup", "frames", "repeats", "dtype")}
    protocol |= {"reference": SAM2 if is_eager else FULL, "copies": is_eager, "after": after}
    clip = make_clip(folder, frames=frames, objects=objects)
    table, blocks, timed = full_size.time_frames(arms, clip, **protocol)
    for name, rows in (("frames", timed), ("blocks", blocks), ("speed", table)):  # the page of speeds needs the others
        save(options, name, rows, run=run, objects=objects)


def make_clip(folder, *, frames, objects):
    clips = load_params("paper").clips
    return folder, write_timing_clip(folder, clips, frames=frames, n_objects=objects)


def save(options, name, table, **keys):
    full_size.keep_rows(options.out / f"{name}.csv", table, **keys)
    write_text(options.out / "README.md", page(options.out, options.device))


if __name__ == "__main__":
    main()
