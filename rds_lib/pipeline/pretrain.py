"""Stage `pretrain`: train the mini SAM2, the one of half its depth and the mini DINOv3, and ship their weights."""

import hashlib
from functools import partial
from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import copy_file, read_table, write_table
from rds_lib.core.paths import CACHE, MINI_SAM2, resolve_or_none
from rds_lib.data.sources import training_sequences
from rds_lib.dinov3.backbone import MINI_DINOV3
from rds_lib.model.sam2 import SHIPPED, build_model
from rds_lib.pretraining.held_out import held_out_iou, held_out_videos_iou
from rds_lib.pretraining.levelling import level_masks
from rds_lib.pretraining.pretrain import PROMPT_SHARES, export_weights, pretrain, real_videos
from rds_lib.pretraining.vit import VIT, save_vit
from rds_lib.work.finished import once

LEVELS = MINI_SAM2 / "levels.csv"  # what levelling the shipped weights tried


def run(params, workdir: Path, out: Path) -> None:
    """Train the mini models, level SAM2's and score them on held-out clips; outside smoke runs ship all weights.

    Writes ``mini.safetensors``, ``mini_half.safetensors``, the folder ``mini_dinov3``, and ``log.csv``, ``levels.csv``
    and ``scores.csv`` with a column ``model``. Resumes from ``.cache/pretrain``.
    """
    section, logs, levels, scores = params.pretrain, [], [], []
    for name, shipped in SHIPPED.items():
        trained = train_model(params, name)
        logs.append(read_table(trained.with_name("log.csv")))
        weights, tried = level(params, workdir, name, trained)
        levels.append(tried)
        options = {"seed": section.seed + 1, "clips": section.held_out, **_roots(section)}
        scores.append(score_held_out(build_model(name, weights), **options))
        for target in [out / f"{name}.safetensors"] + ([] if params.is_smoke else [shipped]):
            copy_file(weights, target)
    weights = train_model(params, VIT)
    logs.append(read_table(weights.with_name("log.csv")))
    for target in [out / MINI_DINOV3.name] + ([] if params.is_smoke else [MINI_DINOV3]):
        save_vit(weights, target)
    for file, tables in (("log.csv", logs), ("levels.csv", levels), ("scores.csv", scores)):
        write_table(out / file, pd.concat(dict(zip([*SHIPPED, VIT], tables)), names=["model"]).reset_index("model"))
    if not params.is_smoke:
        copy_file(out / "levels.csv", LEVELS)


def train_model(params, name: str) -> Path:
    """Train one of the mini models, or find it trained, and return its weights.

    ``start_from`` is a folder with weights of both mini SAM2 under the names of the shipped ones; the mini DINOv3
    starts from random ones.
    """
    section = params.pretrain
    if name == VIT:
        section = section.model_copy(
            update={"phases": section.vit_phases, "lr": section.vit_lr, "run_in": 0, "start_from": ""}
        )
    digest = hashlib.sha256(repr(section).encode()).hexdigest()[:12]
    start = resolve_or_none(section.start_from)
    workdir = CACHE / "pretrain" / f"{params.profile}-{name}-{digest}"
    train = partial(
        pretrain,
        workdir=workdir,
        seed=section.seed,
        phases=section.phases,
        lr=section.lr,
        hold=section.hold,
        drop_path=section.drop_path,
        **_roots(section),
        real_share=section.real_share,
        objects=section.objects,
        run_in=section.run_in,
        check_every=section.check_every,
        start_from=start / SHIPPED[name].name if start else None,
        compile_blocks=section.compile_blocks,
        config_file=name,
    )
    return once(workdir, "weights.safetensors", train)


def level(params, workdir: Path, name: str, trained: Path) -> tuple[Path, pd.DataFrame]:
    """Level the masks of a trained model on calibration videos; the new weights' file, and what each shift gave.

    Generated clips count half, and real videos that were held out of the training half, where there are both.
    """
    model = build_model(name, trained)
    _, calibration = training_sequences(params, workdir)
    _, held_out = real_videos(_roots(params.pretrain)["davis_root"])
    tried = level_masks(model, [videos for videos in (calibration, held_out) if videos])
    return export_weights(model.state_dict(), trained.with_name("levelled.safetensors")), pd.DataFrame(tried)


def _roots(section) -> dict[str, str]:
    """The folders of BSDS500 and of real videos as full paths, "" for none."""
    return {key: str(resolve_or_none(getattr(section, key)) or "") for key in ("bsds_root", "davis_root")}


def score_held_out(
    model, *, seed: int, clips: int, frames: int = 8, bsds_root: str = "", davis_root: str = ""
) -> pd.DataFrame:
    """Mean IoU on unseen clips, a row per kind of clip and of prompt; BSDS500 and real videos where they are given.

    Real videos are those that are held out of the training list; they are followed from a mask.
    """
    roots = {"generated": ""} | ({"BSDS500 objects": bsds_root} if bsds_root else {})
    score = partial(held_out_iou, model, seed=seed, clips=clips, frames=frames)
    rows = [
        {"clips": name, "prompt": kind, "iou": score(bsds_root=root, kind=kind)}
        for name, root in roots.items()
        for kind in PROMPT_SHARES
    ]
    if davis_root:
        _, videos = real_videos(davis_root)
        rows.append({"clips": "held-out videos", "prompt": "mask", "iou": held_out_videos_iou(model, videos)})
    return pd.DataFrame(rows).round(4)
