"""Stage `importance`: score the blocks and choose those that I-LoRA adapts."""

from pathlib import Path

import torch

from rds_lib.core.artifacts import write_json, write_table
from rds_lib.data.batches import SequenceBatches
from rds_lib.data.hub import checkpoint_named
from rds_lib.data.sources import training_sequences
from rds_lib.model.backbone import backbone_of
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.kept import take_or_make
from rds_lib.routing.importance import measure_importance, rank_blocks


def run(params, workdir: Path, out: Path) -> None:
    """Measure both importances on training clips and choose the blocks that I-LoRA adapts.

    Writes ``importance.csv`` (a row per block) and ``blocks.json`` (the choice, and the full model's J&F).
    """
    take_or_make("importance", _measure, params, workdir, out)


def _measure(params, workdir, out):
    section, device = params.importance, "cuda" if torch.cuda.is_available() else "cpu"
    model = build_model(params.model.config, checkpoint_named(params.model.checkpoint), device=device)
    train, _ = training_sequences(params, workdir)
    batches = SequenceBatches(
        train,
        seed=section.seed,
        batch=section.clips,
        frames=section.frames,
        size=model.image_size,
        first_step=0,
        steps=1,
    )
    table = measure_importance(SAM2Clips(model), [batches[0]])
    always_on = backbone_of(model).always_on
    blocks = rank_blocks(table["global_score"], table["local_score"], always_on, section.k_sel)
    full = round(table.attrs["jf_full"], 3)
    write_table(out / "importance.csv", table.assign(selected=table["block"].isin(blocks)).round(6))
    write_json(out / "blocks.json", {"blocks": blocks, "always_on": list(always_on), "jf_full": full})
