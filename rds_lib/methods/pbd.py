"""PBD, progressive block drop, as the supplement uses it: remove the last blocks for good, fine-tune the rest.

Source: Chen et al., "Progressive Block Drop", CVPR 2025; supplement, "a static block pruning method". "The last 24
blocks" cannot be meant literally, since block 44 makes the channels that the neck expects: there are three readings.
A profile's levels are ``baselines.levels`` in params/<profile>.yaml, shared with DyT and AdaViT: add one there, 0.4 to
1. For levels of its own a method overrides `Method.levels`, as SlimSAM does.
"""

from torch import nn

from rds_lib.core.errors import RDSInputError
from rds_lib.methods.base import Method, register
from rds_lib.model.adapters import add_lora
from rds_lib.model.backbone import backbone_of, changes_shape

READINGS = ("A", "B", "C")


def dropped_blocks(level: float, *, depth: int, always_on, reading: str = "A") -> list[int]:
    """Blocks that PBD removes at a level of Table 9, 0.4 to 1, from an encoder of L blocks with K always on.

    The paper gives the number at level 0.4 only, 24 of 48; its times in Table 9 fit ``n = 40 (1 - level)`` of 48.
    Reading A drops the last n blocks outside K; B the last n blocks, except those of K; C the last n blocks, all of
    them: the stage that this empties is cut off the neck.
    """
    if reading not in READINGS:
        raise RDSInputError(f"reading {reading!r} is unknown; choose one of {READINGS}")
    if not 0.4 <= level <= 1:
        raise RDSInputError(f"PBD's level is {level}; give 0.4 to 1, the levels of the paper's Table 9")
    n = round(depth * 40 / 48 * (1 - level))
    if reading == "A":
        free = [i for i in range(depth) if i not in always_on]
        return free[len(free) - n :]
    return [i for i in range(depth - n, depth) if reading == "C" or i not in always_on]


def drop_blocks(model, dropped) -> list[int]:
    """Remove blocks from a model's image encoder, modules and weights, in place.

    Load weights first: blocks are numbered anew. A stage's output is that of its last block left. If the whole last
    stage goes, so does its convolution in the neck, and nothing is added to stride 16 from above.

    Returns
    -------
    list of int
        Former numbers of the blocks left, in order.

    Raises
    ------
    RDSInputError
        If another stage than the last would lose its first block, or all; nothing is changed then.
    """
    encoder, starts, dropped = model.image_encoder, backbone_of(model).stage_starts, set(dropped)
    trunk = encoder.trunk
    stages = [[i for i in range(start, end + 1) if i not in dropped] for start, end in zip(starts, trunk.stage_ends)]
    is_cut = not stages[-1]
    if is_cut:
        stages.pop()
    lost = [(start, stage) for start, stage in zip(starts, stages) if start not in stage]
    broken = [start for start, stage in lost if not stage or changes_shape(trunk.blocks[start])]
    if broken or not stages or not dropped < set(range(len(trunk.blocks))):
        raise RDSInputError(f"blocks {sorted(dropped)} cannot be dropped; keep {broken}, or drop the whole last stage")
    kept = [i for stage in stages for i in stage]
    trunk.blocks = nn.ModuleList(trunk.blocks[i] for i in kept)
    trunk.stage_ends = [kept.index(stage[-1]) for stage in stages]
    if is_cut:
        del encoder.neck.convs[0]  # they run from the last stage to the first
        encoder.neck.backbone_channel_list = encoder.neck.backbone_channel_list[1:]
        trunk.channel_list = trunk.channel_list[1:]
        encoder.scalp -= 1
    return kept


class PBD(Method):
    """The last blocks dropped, low-rank adapters on "the remaining blocks" (supplement), not on I-LoRA's."""

    name, label = "pbd", "PBD"

    def prepare(self, model, level, *, blocks, rank, reading="A", **_) -> None:
        backbone = backbone_of(model)
        dropped = dropped_blocks(level, depth=backbone.depth, always_on=backbone.always_on, reading=reading)
        add_lora(model, [i for i in range(backbone.depth) if i not in dropped], rank=rank)
        drop_blocks(model, dropped)


register(PBD())
