"""What SAM2 can still read of a video's past, so that all else can be dropped: the same bits from a bounded state.

A frame is tracked from the spatial memories of a few frames before it, from the object pointers of some more, and from
the frames with prompts: ``SAM2Base._prepare_memory_conditioned_features``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from rds_lib.core.errors import RDSInputError
from rds_lib.data.video import normalise

UNREAD = {"maskmem_features": None, "maskmem_pos_enc": None, "pred_masks": None}  # where only the pointer is read


@dataclass(frozen=True)
class Reach:
    """How far back a model reads."""

    memories: int  # frames before the present one
    pointers: int
    prompted: int | None  # the closest frames with prompts; None for all of them

    @classmethod
    def of(cls, model) -> "Reach":
        """The reach of a SAM2 model that tracks forwards."""
        stride, most = model.memory_temporal_stride_for_eval, model.max_cond_frames_in_attn
        memories = max(1, (model.num_maskmem - 2) * stride + 1) if model.num_maskmem > 1 else 1
        pointers = model.max_obj_ptrs_in_encoder - 1 if model.use_obj_ptrs_in_encoder else 0
        return cls(memories, pointers, None if most == -1 else most)

    @property
    def frames(self) -> int:
        """Frames before the present one of which anything is read."""
        return max(self.memories, self.pointers)


class RecentFrames(dict):
    """The frames of a session that are kept, by index: squares (S, S, 3) uint8; read as (3, S, S) float32.

    Takes the place of all frames in SAM2's state, and gives the bits of `data.video.load_video`.
    """

    def __getitem__(self, frame_idx: int) -> Tensor:
        if frame_idx not in self:
            kept = f"frames {min(self)} to {max(self)}" if self else "none"
            raise RDSInputError(
                f"frame {frame_idx} is not kept ({kept}); start the session with a longer history, start(history=...)"
            )
        return normalise([super().__getitem__(frame_idx)])[0]


def forget(state: dict, oldest: int, reach: Reach) -> None:
    """Drop from SAM2's state what frames from ``oldest`` on can't read.

    Frames with prompts stay, as SAM2 reads all of them (the closest ones, if the model's config limits them).
    """
    for frame_idx in [t for t in state["images"] if t < oldest]:
        del state["images"][frame_idx]
    for name in ("point_inputs_per_obj", "mask_inputs_per_obj"):
        for frames in state[name].values():
            _drop_before(frames, oldest)
    for frames in state["frames_tracked_per_obj"].values():
        _drop_before(frames, oldest - reach.frames)
    for outputs in state["output_dict_per_obj"].values():
        recent, prompted = outputs["non_cond_frame_outputs"], outputs["cond_frame_outputs"]
        _drop_before(recent, oldest - reach.frames)
        for frame_idx, out in recent.items():
            if frame_idx < oldest - reach.memories:
                out.update(UNREAD)
        before = sorted(t for t in prompted if t < oldest - reach.frames)
        if reach.prompted is not None:
            spare = len(before) - reach.prompted - 1  # one more stays: where SAM2 need not choose, its order is another
            for frame_idx in before[: max(0, spare)]:
                del prompted[frame_idx]
        for frame_idx, out in prompted.items():
            if frame_idx < oldest - reach.memories:
                out["pred_masks"] = None


def _drop_before(frames: dict, oldest: int) -> None:
    for frame_idx in [t for t in frames if t < oldest]:
        del frames[frame_idx]


def alike(state: Mapping, objects: list[int], frame_idx: int, reach: Reach, most: int) -> Iterator[list[int]]:
    """Group objects, at most ``most`` together, whose memories lie on the same frames: these can share a batch."""
    groups: dict[tuple, list[int]] = {}
    for k in objects:
        outputs = state["output_dict_per_obj"][k]
        recent = [t for t in outputs["non_cond_frame_outputs"] if abs(t - frame_idx) <= reach.frames]
        groups.setdefault((tuple(outputs["cond_frame_outputs"]), tuple(recent)), []).append(k)
    for group in groups.values():
        yield from (group[start : start + most] for start in range(0, len(group), most))


def together(state: Mapping, objects: list[int], frame_idx: int, reach: Reach) -> dict[str, dict[int, dict]]:
    """One output dict of SAM2's for several alike objects: their memories and pointers in one batch."""
    parts = [state["output_dict_per_obj"][k] for k in objects]
    return {
        key: {
            t: _batch([part[key][t] for part in parts])
            for t in parts[0][key]
            if key == "cond_frame_outputs" or abs(t - frame_idx) <= reach.frames
        }
        for key in ("cond_frame_outputs", "non_cond_frame_outputs")
    }


def _batch(outputs: list[dict]) -> dict:
    found = {"obj_ptr": torch.cat([out["obj_ptr"] for out in outputs])}
    if (first := outputs[0])["maskmem_features"] is not None:
        found["maskmem_features"] = torch.cat([out["maskmem_features"] for out in outputs])
        found["maskmem_pos_enc"] = [one.expand(len(outputs), -1, -1, -1) for one in first["maskmem_pos_enc"]]
    return found


def apart(out: dict, count: int) -> Iterator[dict]:
    """Undo `together` for the output of a frame."""
    for k in range(count):
        yield {name: _row(value, k) for name, value in out.items()}


def _row(value, k):
    return [_row(one, k) for one in value] if isinstance(value, list) else None if value is None else value[k : k + 1]
