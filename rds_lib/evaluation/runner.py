"""One arm on its way through a clip, a frame at a time: what each frame took, and what ran."""

import time
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from torch import nn

from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.probes import HostReads
from rds_lib.methods.activity import activity, watch_gates
from rds_lib.model.backbone import backbone_of
from rds_lib.model.stopwatch import Stopwatch

TAIL = {  # parts of SAM2 behind the image encoder, and the methods of its predictor that run them, once an object
    "memory_attention": "_prepare_memory_conditioned_features",
    "decoder": "_forward_sam_heads",
    "memory_encoder": "_encode_new_memory",
}


def parts_of(predictor) -> dict[str, tuple[object, str]]:
    """Owner and method of every part of a frame that can be timed; SAM2's own predictor does not name its parts."""
    stock = {"encoder": (predictor, "_get_image_feature")}
    found = predictor.timed_parts() if hasattr(predictor, "timed_parts") else stock
    return found | {name: (predictor, method) for name, method in TAIL.items() if hasattr(predictor, method)}


@dataclass
class Runner:
    """One arm, its predictor, and what was seen of it so far.

    ``rows`` has every timed frame: clip, pass and frame, and the ms, NaN for a frame that was only taken apart.
    ``active`` (L,) and ``gmacs`` go with them; ``probed`` are ms by part, of the frames that were taken apart.
    """

    arm: Arm
    predictor: nn.Module
    watch: Stopwatch
    state: dict = field(default_factory=dict)
    rows: list[tuple] = field(default_factory=list)
    probed: list[dict[str, float]] = field(default_factory=list)
    active: list[np.ndarray] = field(default_factory=list)
    gmacs: list[float] = field(default_factory=list)
    gates: list = field(default_factory=list)  # of every frame since the prompt; see `watch_gates`
    copies: float = np.nan  # a frame; unknown until counted

    def watch_parts(self, stack, *, blocks: bool) -> None:
        """Watch gates and parts until an ``ExitStack`` closes, and the encoder's ``blocks`` if asked."""
        self.gates = stack.enter_context(watch_gates(self.predictor))
        for name, (owner, method) in parts_of(self.predictor).items():
            stack.enter_context(self.watch.watching(owner, method, name))
        if blocks:
            stack.enter_context(self.watch.watching_blocks(backbone_of(self.predictor).blocks))

    def begin(self, prompts) -> None:
        """Start the clip again, with its prompts, up to and including the prompted frame."""
        self.predictor.reset_state(self.state)
        self.gates.clear()
        for obj_id, mask in prompts.items():
            self.predictor.add_new_mask(self.state, 0, obj_id, mask)
        self.steps = self.predictor.propagate_in_video(self.state)
        next(self.steps)  # the prompted frame, encoded already

    def count_copies(self) -> None:
        """Take a frame and count how often the host reads from the device."""
        with HostReads() as reads:
            next(self.steps)
        self.copies = reads.count

    def step(self, *, probe: bool) -> float:
        """Take one frame and return its ms."""
        self.watch.enabled = probe
        self.watch.synchronise()
        began = time.perf_counter()
        next(self.steps)
        self.watch.synchronise()
        return 1e3 * (time.perf_counter() - began)

    def timed_step(self, where: tuple, *, probe: bool) -> None:
        """Take a frame that counts: whole, taken apart, or both where that is free."""
        elapsed = self.step(probe=probe or self.watch.is_free)
        if probe or self.watch.is_free:
            self.probed.append(self.watch.read())
        self.rows.append((*where, elapsed if not probe or self.watch.is_free else np.nan))

    def finish(self, timed: range) -> None:
        """Note what ran on the timed frames; gates that were seen last are those of the last frame."""
        backbone, is_routed = backbone_of(self.predictor), self.arm.kind in ("learned", "forced")
        table = self.predictor.route_table(self.state) if is_routed else None
        for t in timed:
            if is_routed:
                active, kept = table.loc[table["frame_idx"] == t, "active"].to_numpy(float), None
            else:
                active, kept = activity(self.predictor, self.gates[t - timed.stop])
            self.active.append(active)
            self.gmacs.append(backbone.gmacs(active, kept))

    def frames(self, saved_ms: np.ndarray | None = None) -> pd.DataFrame:
        """The time of every frame that counts, the blocks that ran on it, and the ms that the others would take.

        ``saved_ms`` (L,) is what leaving out each block saves; without it nothing is saved.
        """
        active = np.array(self.active)  # (frames, L)
        table = pd.DataFrame(self.rows, columns=["clip", "pass", "frame", "ms"])
        table["active_blocks"] = active.sum(1)
        table["saved_ms"] = 0.0 if saved_ms is None else (1 - active) @ saved_ms
        table.insert(0, "method", self.arm.method)
        table.insert(1, "level", self.arm.level)
        return table.dropna(subset="ms").reset_index(drop=True)

    def part(self, name: str) -> float:
        """Median ms of a part over the frames that were taken apart; 0 if it never ran."""
        return float(np.median([times.get(name, 0.0) for times in self.probed]))
