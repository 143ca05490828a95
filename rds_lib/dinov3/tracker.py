"""DINOv3's segmentation tracking with one route per frame through the ViT, behind the methods of SAM2's predictor."""

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rds_lib.core.errors import RDSInputError
from rds_lib.data.images import ShortSide
from rds_lib.data.prompts import check_frame_index, check_mask
from rds_lib.data.video import load_video
from rds_lib.dinov3.backbone import DinoBackbone
from rds_lib.dinov3.propagation import OFFICIAL, Protocol, class_scores, patch_labels, propagate
from rds_lib.routing.frame_router import FrameRouter, Routed
from rds_lib.routing.route_table import FrameRoute, RouteLog
from rds_lib.routing.starting import StartsSessions

MOST_OBJECTS = 254
MASKS_ALONE = "DINOv3 tracks from masks alone; give add_new_mask (--mask) the object's mask"


@dataclass
class _Context:
    """What later frames take their labels from: a frame's features and soft labels."""

    features: Tensor  # (h, w, D)
    labels: Tensor  # (h, w, M)

    def with_classes(self, count: int) -> "_Context":
        """The same with classes that this frame shows nothing of."""
        return replace(self, labels=F.pad(self.labels, (0, count - self.labels.shape[-1])))


class DinoTracker(Routed, StartsSessions, nn.Module):
    """Track objects by the likeness of patch features; masks as prompts only.

    Frames with a prompt run all blocks and stay in the context; beside them the most recent frames do. So objects that
    appear later can be added, each by a mask on the frame where it appears. The route of any other frame follows from
    the labels of the frame before it, all blocks where these show nothing.

    Parameters
    ----------
    vit : DINOv3ViTModel
    short_side : int
        px to which the short side of a frame is resized, rounded up to whole patches; the other keeps the shape.
    always_on : sequence of int, optional
        See `DinoBackbone`.
    """

    def __init__(self, vit, *, short_side: int, always_on=None, protocol: Protocol = OFFICIAL):
        super().__init__()
        self.vit, self.protocol = vit, protocol
        self.backbone = DinoBackbone(vit, always_on=always_on)
        self.frame_router = FrameRouter(self.backbone)
        self.image_size = ShortSide(short_side, self.backbone.token_stride)

    @property
    def device(self) -> torch.device:
        return self.vit.embeddings.cls_token.device

    def route_table(self, inference_state) -> pd.DataFrame:
        """As `RDSVideoPredictor.route_table`."""
        return inference_state["rds"].table()

    def timed_parts(self) -> dict[str, tuple[object, str]]:
        """As `RDSVideoPredictor.timed_parts`."""
        return {"encoder": (self, "_encode"), "router": (self.frame_router, "route")}

    @torch.inference_mode()
    def init_state(self, video_path) -> dict:
        """Start a session on a video: a folder of frames, a video file, or an array (T, H, W, 3)."""
        images, height, width = load_video(video_path, self.image_size)
        if len(images) < 2:
            raise RDSInputError(f"the video has {len(images)} frame; give at least 2, the first has the prompt")
        return self.new_state(images.to(self.device), len(images), (height, width))

    def new_state(self, images, num_frames: int, size: tuple[int, int]) -> dict:
        """As `RDSVideoPredictor.new_state`."""
        state = {"images": images, "num_frames": num_frames, "video_height": size[0], "video_width": size[1]}
        self.reset_state(state)
        return state

    def reset_state(self, inference_state):
        """Remove all prompts, results and routes."""
        inference_state |= {"obj_ids": [], "rds": RouteLog()}
        inference_state["masks"] = {}  # frame -> object -> (H, W) bool
        self._forget(inference_state)

    def _forget(self, state):
        """Drop the context: frames with masks, the most recent others, and the last one with its labels."""
        state |= {"prompted": {}, "recent": deque(maxlen=self.protocol.context), "last": None}

    def add_new_mask(self, inference_state, frame_idx, obj_id, mask):
        """Add a mask (H, W) of the video's size; where it meets the mask of another object, the later one wins."""
        check_frame_index(inference_state, frame_idx)
        check_mask(inference_state, mask, -1)
        if obj_id not in inference_state["obj_ids"]:
            if len(inference_state["obj_ids"]) == MOST_OBJECTS:
                raise RDSInputError(f"object {obj_id!r} is one too many; at most {MOST_OBJECTS} fit a label map")
            inference_state["obj_ids"].append(obj_id)
        mask = torch.as_tensor(np.asarray(mask)).bool().to(self.device)
        others = inference_state["masks"].setdefault(frame_idx, {})
        others |= {other: known & ~mask for other, known in others.items() if other != obj_id} | {obj_id: mask}

    def add_new_points_or_box(self, *args, **kwargs):
        """Refused: labels are propagated from masks."""
        raise RDSInputError(MASKS_ALONE)

    def check_prompts(self, inference_state, prompts: Mapping) -> None:
        """Raise if one of ``{obj_id: {"mask": (H, W)}}`` can't be taken."""
        for prompt in prompts.values():
            if "mask" not in prompt:
                raise RDSInputError(MASKS_ALONE)
            check_mask(inference_state, prompt["mask"], -1)
        if len({*inference_state["obj_ids"], *prompts}) > MOST_OBJECTS:
            raise RDSInputError(f"more than {MOST_OBJECTS} objects; at most as many fit a label map")

    def prompt(self, inference_state, frame_idx: int, prompts: Mapping) -> Tensor | None:
        """Add masks on a frame; its scores again if it is the one that was tracked last."""
        last = inference_state["last"]
        if last is not None and frame_idx < last[0]:
            raise RDSInputError(f"frame_idx is {frame_idx}; DINOv3 is corrected on the last frame, {last[0]}")
        for obj_id, prompt in prompts.items():
            self.add_new_mask(inference_state, frame_idx, obj_id, prompt["mask"])
        if last is None or frame_idx > last[0]:
            return None
        if frame_idx not in inference_state["prompted"]:
            inference_state["recent"].pop()  # the frame itself
        inference_state["prompted"].pop(frame_idx, None)
        return self.track_frame(inference_state, frame_idx)[2]

    def forget(self, inference_state, oldest: int) -> None:
        """Drop frames and masks before ``oldest``; the context is bounded, but for frames with a mask."""
        for name in ("images", "masks"):
            for frame_idx in [t for t in inference_state[name] if t < oldest]:
                del inference_state[name][frame_idx]

    def remove_object(
        self, inference_state, obj_id, strict: bool = False, need_output: bool = True
    ) -> tuple[list, list]:
        """Stop tracking an object: what it had in the context becomes background. Returns as SAM2's predictor."""
        obj_ids = inference_state["obj_ids"]
        if obj_id not in obj_ids:
            if strict:
                raise RDSInputError(f"there is no object {obj_id!r}; the tracker has {obj_ids}")
            return obj_ids, []
        column = 1 + obj_ids.index(obj_id)
        obj_ids.remove(obj_id)
        if not obj_ids:
            self.reset_state(inference_state)
            return inference_state["obj_ids"], []
        for frame_idx, masks in list(inference_state["masks"].items()):
            masks.pop(obj_id, None)
            if not masks:
                del inference_state["masks"][frame_idx]
        for context in (*inference_state["prompted"].values(), *inference_state["recent"]):
            context.labels = _without(context.labels, column)
        if inference_state["last"] is not None:
            frame_idx, labels = inference_state["last"]
            inference_state["last"] = frame_idx, _without(labels, column)
        return obj_ids, []

    @torch.inference_mode()
    def propagate_in_video(
        self, inference_state, start_frame_idx=None, max_frame_num_to_track=None, reverse=False
    ) -> Iterator[tuple[int, list, Tensor]]:
        """Yield frame, object ids and scores (O, 1, H, W): above 0 where an object is likelier than the background.

        A frame with a mask shows that mask. Start on one, or go on where the last call ended: its context is kept.
        """
        masks, log = inference_state["masks"], inference_state["rds"]
        if not masks:
            raise RDSInputError("no object to track; call add_new_mask first")
        start = min(masks) if start_frame_idx is None else start_frame_idx
        check_frame_index(inference_state, start, "start_frame_idx")
        if max_frame_num_to_track is not None and max_frame_num_to_track < 0:
            raise RDSInputError(f"max_frame_num_to_track is {max_frame_num_to_track}; give 0 or more frames")
        step = -1 if reverse else 1
        if inference_state["last"] is None or inference_state["last"][0] != start - step:
            if start not in masks:
                raise RDSInputError(f"start_frame_idx is {start}; start on a frame with a mask: {sorted(masks)}")
            self._forget(inference_state)
        log.start, log.reverse = start, bool(reverse)
        end = 0 if reverse else inference_state["num_frames"] - 1
        if max_frame_num_to_track is not None:
            end = sorted((start, start + step * max_frame_num_to_track, end))[1]
        for t in range(start, end + step, step):
            yield self.track_frame(inference_state, t)

    @torch.inference_mode()
    def track_frame(self, inference_state, frame_idx: int, *, new: Collection = ()) -> tuple[int, list, Tensor]:
        """Track all objects on the next frame: a step of ``propagate_in_video``, which says what is returned.

        ``new`` is SAM2's: the objects with a prompt on this frame. A mask stands as it is, whatever came before.
        """
        labels = self._step(inference_state, frame_idx)
        return frame_idx, list(inference_state["obj_ids"]), self._logits(inference_state, frame_idx, labels)

    def _logits(self, state, t, labels) -> Tensor:
        """Scores (O, 1, H, W) of a frame at the video's size; a mask that was given stands as it is."""
        size, scores = (state["video_height"], state["video_width"]), class_scores(labels).permute(2, 0, 1)
        logits = F.interpolate((scores[1:] - scores[:1])[:, None], size=size, mode="nearest-exact")
        for obj_id, mask in state["masks"].get(t, {}).items():
            logits[:, 0, mask] = -1.0
            logits[state["obj_ids"].index(obj_id), 0] = 2.0 * mask - 1.0
        return logits

    def _step(self, state, t) -> Tensor:
        """Labels (h, w, 1 + O) of one frame, which becomes context."""
        classes = 1 + len(state["obj_ids"])
        known = [one.with_classes(classes) for one in (*state["prompted"].values(), *state["recent"])]
        features, labels = self._encode(state, t, state["last"] and state["last"][1]), None
        if known:
            context, seen = (torch.stack([getattr(one, name) for one in known]) for name in ("features", "labels"))
            labels = propagate(features, context, seen, self.protocol)
        if t in state["masks"]:
            labels = self._with_masks(state, t, labels, classes)
            state["prompted"][t] = _Context(features, labels)
        else:
            state["recent"].append(_Context(features, labels))
        state["last"] = t, labels
        return labels

    def _with_masks(self, state, t, labels, classes) -> Tensor:
        """What was propagated (h, w, M), with the masks that are given for this frame in its place."""
        masks, sides = state["masks"][t], self.image_size.of(state["video_width"], state["video_height"])
        grid = [side // self.backbone.token_stride for side in sides[::-1]]
        given = patch_labels(torch.stack([*masks.values()]), grid)  # (h, w, 1 + given)
        own = [1 + state["obj_ids"].index(obj_id) for obj_id in masks]
        rest = given.new_zeros(*grid, classes) if labels is None else labels.clone()
        rest[..., own] = 0
        rest[..., 0] += rest.sum(-1) == 0
        labels = given[..., :1] * rest / rest.sum(-1, keepdim=True)
        labels[..., own] = given[..., 1:]
        return labels

    def _encode(self, state, t, previous: Tensor | None) -> Tensor:
        """Features of one frame under its route; ``previous``: the labels of the frame before, in tracking order."""
        tokens, log = self.backbone.embed(state["images"][t][None].to(self.device)), state["rds"]
        if t in state["masks"] or previous is None:
            is_first = t == log.start and previous is None
            reason = "first_frame" if is_first else "prompted" if t in state["masks"] else "no_previous_mask"
            log.frames[t] = self.frame_router.full(reason)
        elif not self.frame_router.is_active:
            log.frames[t] = FrameRoute((True,) * self.depth, (1.0,) * self.depth, "routed")
        else:
            union = previous[..., 1:].amax(-1) - previous[..., 0]  # above 0 where an object wins
            log.frames[t] = self.frame_router.route(tokens, [union[None, None]], t, log)
        active = log.frames[t].active
        return self.backbone.run(tokens, None if all(active) else active)[0]


def _without(labels: Tensor, column: int) -> Tensor:
    """Soft labels (h, w, M) less one class, which becomes background; a frame may have come before that class."""
    if column >= labels.shape[-1]:
        return labels
    rest = torch.cat([labels[..., :column], labels[..., column + 1 :]], -1)
    rest[..., 0] += labels[..., column]
    return rest
