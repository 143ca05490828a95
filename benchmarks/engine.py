"""CPU time of a tracked frame under each step of the engine alone, against SAM2's own operations; writes a page.

    OMP_NUM_THREADS=1 python benchmarks/engine.py [--models mini tiny large] [--repeats 3] [--out reports/engine/cpu.md]

One thread. Mini SAM2 with its weights, routed at budget 0.6; Hiera-T and Hiera-L with random weights at 256 px, all
blocks on. All ways take a frame before any takes the next, in an order that rotates; a ratio is the median over frames
of two times of one frame. Time is of the process alone, so that a busy machine matters less. Compiling takes the most;
`--without-compiling` leaves that out.
"""

import argparse
import datetime
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from rds_lib.core.artifacts import write_text
from rds_lib.data.clips import generate_clip
from rds_lib.evaluation.agreement import agreement
from rds_lib.pipeline.machine import machine_facts
from rds_lib.report import markdown
from rds_lib.routing.build import build_rds_video_predictor
from rds_lib.routing.engine.steps import Engine


class Way(NamedTuple):
    """How frames are tracked."""

    name: str
    steps: tuple = ()
    is_bfloat16: bool = False
    is_channels_last: bool = False

    @property
    def dtype(self):
        return "bfloat16" if self.is_bfloat16 else "float32"


class Model(NamedTuple):
    """What is tracked with."""

    name: str
    config: str
    options: dict
    frames: int  # timed in each pass
    compiled: tuple  # ways that are compiled


WAYS = (
    Way("eager"),
    Way("channels last", is_channels_last=True),
    Way("eager", is_bfloat16=True),
    Way("weights cast", ("cast",), is_bfloat16=True),
)
BLOCKS = Way("blocks compiled", ("blocks",))
CAST_BLOCKS = Way("weights cast, blocks compiled", ("cast", "blocks"), is_bfloat16=True)
ROUTER = Way("router compiled", ("router",))
CAST_TAIL = Way("weights cast, tail compiled", ("cast", "tail"), is_bfloat16=True)
PLAIN = {"apply_postprocessing": False}  # whose choice among three masks would turn with the last digit
SMALL = PLAIN | {"routing": "full", "hydra_overrides_extra": ["++model.image_size=256"]}
MODELS = {
    "mini": Model("mini, 192 px", "mini", PLAIN | {"budget": 0.6}, 12, (BLOCKS, ROUTER, CAST_BLOCKS, CAST_TAIL)),
    "tiny": Model("Hiera-T, 256 px", "configs/sam2.1/sam2.1_hiera_t.yaml", SMALL, 3, ()),
    "large": Model("Hiera-L, 256 px", "configs/sam2.1/sam2.1_hiera_l.yaml", SMALL, 2, (CAST_BLOCKS,)),
}
WARM_UP = 2


class Tracker:
    """One way on its way through the clip."""

    def __init__(self, model: Model, way: Way, clip, state_dict=None):
        torch.manual_seed(0)
        self.way, self.clip, self.times, self.logits = way, clip, [], []
        self.predictor = build_rds_video_predictor(model.config, device="cpu", **model.options)
        if state_dict is not None:
            self.predictor.load_state_dict(state_dict, assign=True)  # one copy of Hiera-L in memory
        torch.nn.init.constant_(self.predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
        if way.is_channels_last:
            self.predictor.to(memory_format=torch.channels_last)
        Engine.of(way.steps).apply_to(self.predictor)
        began = time.process_time()
        with self._autocast():
            self.state = self.predictor.init_state(clip.frames)
        self.first = time.process_time() - began

    def begin(self):
        self.predictor.reset_state(self.state)
        self.logits.clear()
        with self._autocast():
            self.predictor.add_new_mask(self.state, 0, 1, self.clip.masks[0] == 1)
            self.steps = self.predictor.propagate_in_video(self.state)
            next(self.steps)

    def step(self, *, timed):
        with self._autocast():
            began = time.process_time()
            _, _, logits = next(self.steps)
            elapsed = time.process_time() - began
        self.logits.append(logits.clone())
        if timed:
            self.times.append(1e3 * elapsed)

    def _autocast(self):
        return torch.autocast("cpu", torch.bfloat16) if self.way.is_bfloat16 else nullcontext()


def measure(model: Model, repeats: int, *, compiling: bool) -> pd.DataFrame:
    """One row per way: ms, ratios and differences."""
    clip = generate_clip(0, 0, split="val", frames=WARM_UP + model.frames + 1, height=192, width=192)
    ways, trackers = WAYS + (model.compiled if compiling else ()), []
    for way in ways:
        shared = trackers[0].predictor.state_dict() if trackers else None
        trackers.append(Tracker(model, way, clip, shared))
    for _ in range(repeats):
        for tracker in trackers:
            tracker.begin()
        for t in range(WARM_UP + model.frames):
            turn = t % len(trackers)
            for tracker in trackers[turn:] + trackers[:turn]:
                tracker.step(timed=t >= WARM_UP)
    eager = {tracker.way.dtype: tracker for tracker in trackers if tracker.way.name == "eager"}
    return pd.DataFrame([_row(model, tracker, eager) for tracker in trackers])


def _row(model, tracker, eager):
    times, plain = np.array(tracker.times), eager["float32"]
    own = eager[tracker.way.dtype]
    found, wanted = (dict(enumerate(one.logits)) for one in (tracker, plain if tracker is own else own))
    apart = agreement(found, wanted)[["largest", "turned"]].max()
    ratios = times / own.times
    return {
        "model": model.name,
        "way": tracker.way.name,
        "type": tracker.way.dtype,
        "frame, CPU ms": f"{np.median(times):.1f}",
        "times eager float32": f"{np.median(times / plain.times):.2f}",
        "times eager of its type": f"{np.median(ratios):.2f}",
        "middle half": f"{np.percentile(ratios, 25):.2f} to {np.percentile(ratios, 75):.2f}",
        "largest difference of a logit": f"{apart['largest']:.2g}",
        "most pixels that turn, %": f"{100 * apart['turned']:.2g}",
        "first frame, CPU s": f"{tracker.first:.1f}",
    }


def page(table: pd.DataFrame, repeats: int) -> str:
    """The page, with what it was measured on."""
    facts = f"{machine_facts()['processor']}, 1 thread, torch {torch.__version__}, {datetime.date.today().isoformat()}"
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    has = [name for name in ("avx512_bf16", "amx_bf16") if name in flags]
    return "\n".join(
        [
            "# The engine's steps on a CPU",
            "",
            f"`python benchmarks/engine.py` on {facts}; bfloat16 instructions: {', '.join(has) or 'none'}; "
            f"{repeats} passes.",
            "Below 1 a step pays. Differences are over all frames of the last pass, from eager in the same type; those",
            "of eager bfloat16 are from eager float32: what rounding alone does. The first frame compiles blocks.",
            "",
            markdown.table(list(table), table.itertuples(index=False)),
            "",
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--without-compiling", action="store_true")
    parser.add_argument("--out", type=Path, help="also write the page here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    compiling = not options.without_compiling
    tables = [measure(MODELS[name], options.repeats, compiling=compiling) for name in options.models]
    text = page(pd.concat(tables), options.repeats)
    if options.out:
        write_text(options.out, text)
    print(text)


if __name__ == "__main__":
    main()
