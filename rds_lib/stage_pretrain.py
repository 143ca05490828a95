"""Stage `pretrain`: train the mini SAM2, score it, and make its weights the shipped ones."""

import hashlib
import shutil
from pathlib import Path

import pandas as pd

from rds_lib.artifacts import atomic_write, read_table, write_table
from rds_lib.paths import CACHE, is_smoke, resolve_or_none
from rds_lib.pretrain import PROMPT_SHARES, held_out_iou, pretrain
from rds_lib.sam2_models import MINI_WEIGHTS, build_model


def run_pretrain(params, workdir: Path, out: Path) -> None:
    """Train the mini SAM2 and score it on held-out clips; outside smoke runs its weights become the shipped ones.

    Writes ``weights.safetensors``, ``log.csv`` and ``scores.csv``. Resumes from ``.cache/pretrain``.
    """
    section = params.pretrain
    digest = hashlib.sha256(repr(section).encode()).hexdigest()[:12]
    scratch = CACHE / "pretrain" / f"{params.profile}-{digest}"
    weights = pretrain(
        workdir=scratch, seed=section.seed, phases=section.phases, lr=section.lr, drop_path=section.drop_path,
        bsds_root=section.bsds_root, davis_root=section.davis_root,
        start_from=resolve_or_none(section.start_from), compile_blocks=section.compile_blocks)
    scores = score_held_out(build_model("mini", weights), seed=section.seed + 1, clips=section.held_out, bsds_root=section.bsds_root)
    write_table(out / "log.csv", read_table(scratch / "log.csv"))
    write_table(out / "scores.csv", scores)
    for target in [out / "weights.safetensors"] + ([] if is_smoke(workdir) else [MINI_WEIGHTS]):
        with atomic_write(target) as temporary:
            shutil.copyfile(weights, temporary)


def score_held_out(model, *, seed: int, clips: int, frames: int = 8, bsds_root: str = "") -> pd.DataFrame:
    """Mean IoU on unseen clips by kind of clip and of prompt, one row each; objects of BSDS500 where its folder is given."""
    rows = [{"clips": name, "prompt": kind, "iou": held_out_iou(
                model, seed=seed, clips=clips, frames=frames, bsds_root=root, kind=kind)}
            for name, root in (("generated", ""), ("BSDS500 objects", bsds_root)) if name == "generated" or root
            for kind in PROMPT_SHARES]
    return pd.DataFrame(rows).round(4)
