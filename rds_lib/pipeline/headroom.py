"""Stage and command `headroom`: what a dynamic router could win over the best static plan, for a model and some videos.

Writes ``measured.npz`` (all that was measured), ``headroom.csv`` (the table), ``headroom.json`` (the summary, see
`evaluation.headroom_names`), ``headroom.md`` and ``headroom.png``.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from rds_lib.core.artifacts import write_bytes, write_json, write_table, write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.data.datasets import Sequence as VideoSequence
from rds_lib.data.hub import checkpoint_named
from rds_lib.data.output import check_output, output_folder
from rds_lib.data.sources import training_sequences
from rds_lib.dinov3.backbone import DinoBackbone, load_dinov3
from rds_lib.dinov3.propagation import DinoClips
from rds_lib.evaluation.headroom import measure, random_plans
from rds_lib.evaluation.headroom_clips import frames_of, load_clip
from rds_lib.evaluation.headroom_names import FILE, MEASURED, TABLE
from rds_lib.evaluation.headroom_table import as_table, summarise
from rds_lib.model.backbone import Backbone, origin_of
from rds_lib.model.clip_tracking import ClipTracker, SAM2Clips
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.chosen_model import check_model, dino_checkpoint, is_dino
from rds_lib.pipeline.kept import take_or_make
from rds_lib.report.headroom import as_page
from rds_lib.report.table9 import commit
from rds_lib.routing.algorithm1 import target_active
from rds_lib.show.headroom_figure import headroom_figure
from rds_lib.work.parallel import cpu_workers

OF_DATA = {"routes": 24, "frames": 6, "length": None, "seed": 0}  # where a data set is named and no other values are
BUDGET = 0.4  # where neither blocks nor a budget are given


def run(params, workdir: Path, out: Path) -> None:
    """Measure the profile's own model and clips; writes what `run_headroom` writes."""
    with output_folder(out, overwrite=True, marker=FILE) as place:
        take_or_make("headroom", partial(measure_profile, commit=""), params, workdir, place)


def measure_profile(
    params,
    workdir: Path,
    out: Path,
    *,
    blocks: int | None = None,
    mirror: bool = True,
    device: str | None = None,
    **about,
) -> dict:
    """What `run` does, made anew; ``blocks`` goes before the section's budget."""
    section = params.headroom
    clips = profile_sequences(params, workdir, section.split)
    spread = np.linspace(0, len(clips) - 1, min(section.clips, len(clips))).round().astype(int)
    model = open_tracker(params.model.config, checkpoint_named(params.model.checkpoint), device)
    return run_headroom(
        model,
        [clips[n] for n in spread],
        out,
        n_active=blocks_to_run(model.backbone, blocks, None if blocks else section.budget),
        mirror=mirror,
        overwrite=True,
        **section.model_dump(include={"routes", "frames", "length", "seed"}),
        model=params.model.config,
        data=f"profile {params.profile}, {section.split}",
        **about,
    )


def profile_sequences(params, workdir: Path, split: str) -> list[VideoSequence]:
    """The clips that a profile trains on (``train``) or calibrates on (``calibration``)."""
    known = dict(zip(("train", "calibration"), training_sequences(params, workdir), strict=True))
    if split not in known:
        raise RDSInputError(f"split {split!r}: a profile has {' and '.join(known)}; name other videos with --data")
    return known[split]


def open_tracker(config: str, checkpoint: Path | str | None, device: str | None = None) -> ClipTracker:
    """A SAM2 or DINOv3 model with its weights, on the GPU if there is one; random weights are refused."""
    config, checkpoint = check_model(config, checkpoint, device)
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if is_dino(config):
        return DinoClips(DinoBackbone(load_dinov3(dino_checkpoint(config, checkpoint), device=device)))
    return SAM2Clips(build_model(config, checkpoint, device=device).requires_grad_(False))


def blocks_to_run(backbone: Backbone, blocks: int | None, budget: float | None) -> int:
    """The number of blocks of a route, given as it is or as a budget, of which |K| + (L - |K|) * budget run."""
    if blocks is not None and budget is not None:
        raise RDSInputError(f"blocks = {blocks} and budget = {budget:g}: give one of the two")
    share = BUDGET if budget is None else budget
    return blocks if blocks is not None else round(target_active(share, backbone.depth, backbone.always_on))


def run_headroom(
    model: ClipTracker | Backbone,
    sequences: Sequence[VideoSequence],
    out: Path,
    /,
    *,
    n_active: int,
    routes: int = 24,
    frames: int = 6,
    length: int | None = None,
    mirror: bool = True,
    seed: int = 0,
    overwrite: bool = False,
    **about,
) -> dict:
    """Measure, write the folder ``out``, which appears whole or not at all, and return the summary.

    Parameters
    ----------
    n_active, routes : int
        Blocks of a route, and the number of random routes.
    frames, length : int
        Frames to measure of each video, evenly spread, and how many frames to track; all by default.
    **about
        ``model`` and ``data`` in words, for the summary; and ``commit``, by default that of this checkout.
    """
    check_output(out, overwrite=overwrite, marker=FILE)
    if len(sequences) < 2:
        raise RDSInputError(f"{len(sequences)} video: at least 2 are needed, to tell what differs between videos")
    for sequence in sequences:
        frames_of(sequence, frames, length)
    backbone = getattr(model, "backbone", model)
    plans = random_plans(routes, n_active, backbone, seed=seed)
    clips = [partial(load_clip, sequence, backbone.image_size, frames, length) for sequence in sequences]
    with output_folder(out, overwrite=overwrite, marker=FILE) as stage:
        measured = measure(model, clips, plans, mirror=mirror, workers=cpu_workers())
        # a stage's lock names the code; a result that did would change with every commit, and what depends on it rerun
        about |= {"weights": origin_of(backbone).as_dict()}
        about.setdefault("commit", "" if "DVC_STAGE" in os.environ else commit())
        summary = summarise(measured, seed=seed, **about)
        measured.write(stage / MEASURED)
        write_table(stage / TABLE, as_table(summary))
        write_json(stage / FILE, summary)
        write_text(stage / "headroom.md", as_page(summary))
        write_bytes(stage / "headroom.png", headroom_figure(measured).image(dpi=120))
    return summary
