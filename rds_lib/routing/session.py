"""A session: frames one by one, as they come, of a video of any length, from a state of bounded size."""

import threading
import warnings
import weakref
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from rds_lib.core.errors import RDSInputError
from rds_lib.data.prompts import check_frame_index
from rds_lib.data.video import shrink_frame
from rds_lib.routing.memory import RecentFrames
from rds_lib.routing.pace import Pace
from rds_lib.routing.route_table import FrameRoute, RouteTotals

ROUTES_KEPT = 1000  # frames
ENDLESS = 2**31  # frames of a video whose length isn't known
_turns: "weakref.WeakKeyDictionary[object, threading.RLock]" = weakref.WeakKeyDictionary()  # a lock for each tracker


class StepResult(NamedTuple):
    """One frame, tracked."""

    frame_idx: int
    obj_ids: list
    mask_logits: Tensor  # (O, 1, H, W), above 0 inside
    route: FrameRoute | None  # None where there was nothing to track, and no block ran


class TrackingSession:
    """Track objects through frames that come one by one; ``predictor.start()`` makes one.

    Takes the same steps as ``init_state`` and ``propagate_in_video``: the same frames and prompts, each prompt added
    when its frame is there, give the same logits and routes, bit for bit. It keeps what the model can still read: its
    last memories and object pointers, and every frame with a prompt. So its memory doesn't grow with the video.

    An object that leaves the image stays an object: its logits are below 0, all blocks run on the frames after those on
    which no object was seen, and it is found again if it comes back. `remove_object` ends that.

    Sessions on one tracker share its weights. Calls from several threads take turns. A call that fails on bad input
    leaves the session as it was. Use it as a context manager, or call `close`, to free its memory.

    Parameters
    ----------
    tracker : RDSVideoPredictor or DinoTracker
    history : int or None
        How many frames before the last one are kept for corrections; None keeps all, and what ``propagate_in_video``
        needs to track backwards through `inference_state`.
    num_frames : int, optional
        Length of the video, if it is known. It matters to SAM2 for videos of less than 16 frames, whose pointers it
        places by it: without it, such a video is tracked as the beginning of a longer one.
    pace : Pace, optional
        Holds a frame rate; see `pace.pace_of`.
    """

    def __init__(self, tracker, *, history: int | None = 0, num_frames: int | None = None, pace: Pace | None = None):
        for name, value, least in (("history", history, 0), ("num_frames", num_frames, 1)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, Integral) or value < least):
                raise RDSInputError(f"{name} is {value!r}; give a whole number of {least} or more frames, or None")
        self._tracker, self._history, self._num_frames = tracker, history, num_frames
        self._state: dict | None = None
        self._totals = RouteTotals(tracker.depth)
        self._fault = ""
        self.pace = pace
        self.frame_idx = -1  # of the last frame
        self.size: tuple[int, int] | None = None  # (H, W) in px, known from the first frame on

    def __enter__(self) -> "TrackingSession":
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def obj_ids(self) -> list:
        """The objects that are tracked, in the order of the logits."""
        return list(self._state["obj_ids"]) if self._state else []

    @property
    def inference_state(self) -> dict:
        """What ``propagate_in_video`` and SAM2's other methods take, of the frames so far."""
        self._check_open()
        if self._state is None:
            raise RDSInputError("no frame yet; call step first")
        self._state["num_frames"] = max(self._num_frames or 0, self.frame_idx + 1)
        return self._state

    def step(self, frame: np.ndarray, prompts: Mapping[Hashable, object] | None = None) -> StepResult:
        """Track through the next frame.

        Parameters
        ----------
        frame : ndarray, shape (H, W, 3), uint8
            RGB, of the size of the first one.
        prompts : mapping, optional
            Object id -> its prompt on this very frame: a mask (H, W) bool, or ``{"mask": ...}``, or
            ``{"points": (N, 2), "labels": (N,), "box": (4,)}`` in px as SAM2's, any of them left out. An id that is new
            adds an object.

        Raises
        ------
        RDSInputError
            If the frame or a prompt is none, or the session is closed; the frame doesn't count then.
        """
        with self._turn():
            if self.pace is not None:
                self.pace.frame_started()
            frame_idx, prompts = self.frame_idx + 1, as_prompts(prompts)
            _, (width, height), square = shrink_frame((frame_idx, frame), self._tracker.image_size)
            if self.size is not None and self.size != (height, width):
                raise RDSInputError(
                    f"frame {frame_idx}: {width}x{height} px, but the first frame has {self.size[1]}x{self.size[0]}; "
                    "give all frames one size, or start a new session"
                )
            state = self._state or self._tracker.new_state(RecentFrames(), ENDLESS, (height, width))
            self._check_prompts(state, prompts)
            with self._in_one_piece(frame_idx):
                state["images"][frame_idx] = square
                self._state, self.size = state, (height, width)
                result = self._track(state, frame_idx, prompts)
                self.frame_idx = frame_idx
                self._forget(state)
            if self.pace is not None:
                self.pace.frame_ended(result.route, len(result.obj_ids))
        return result

    def correct(self, prompts: Mapping[Hashable, object], frame_idx: int | None = None) -> StepResult:
        """Add prompts on the last frame, or on an earlier one that is kept; what follows is tracked from them.

        Frames between that one and the next are not tracked again. A click on the frame of an object's first prompt
        refines that prompt. Arguments as of `step`.
        """
        with self._turn():
            state, prompts = self.inference_state, as_prompts(prompts)
            frame_idx = self.frame_idx if frame_idx is None else frame_idx
            check_frame_index(state, frame_idx)
            state["num_frames"] = self._num_frames or ENDLESS
            _ = state["images"][frame_idx]  # an error where it is gone
            self._check_prompts(state, prompts)
            if not prompts:
                raise RDSInputError("no prompt to correct by; give {obj_id: mask or points}")
            with self._in_one_piece(frame_idx):
                logits = self._tracker.prompt(state, frame_idx, prompts)
                route = state["rds"].frames.get(frame_idx)
                return StepResult(frame_idx, self.obj_ids, logits, route)

    def remove_object(self, obj_id: Hashable) -> None:
        """Stop tracking an object and drop what is known of it."""
        with self._turn():
            if obj_id not in self.obj_ids:
                raise RDSInputError(f"there is no object {obj_id!r}; the session tracks {self.obj_ids}")
            state = self._state
            log, is_last = state["rds"], len(state["obj_ids"]) == 1
            self._tracker.remove_object(state, obj_id, need_output=False)
            state["rds"] = log  # SAM2 starts anew with the last object; the routes so far stay
            if is_last:
                log.start = None

    def route_table(self) -> pd.DataFrame:
        """The routes of the latest 1,000 frames; as ``RDSVideoPredictor.route_table``."""
        self._check_open()
        if self._state is None:
            return pd.DataFrame(columns=["frame_idx", "block", "active", "keep_prob", "reason"])
        return self._state["rds"].table()

    def route_totals(self) -> pd.DataFrame:
        """Means over all frames so far, one row per block.

        Columns: ``block``, ``active_share``, ``active_share_routed``, ``mean_keep_prob`` (of routed frames). ``attrs``:
        ``frames``, ``routed``, ``mean_active``, ``mean_active_routed``.
        """
        return self._totals.table()

    def close(self) -> None:
        """Free the session's memory; its totals stay."""
        self._state, self._fault = None, "this session is closed"

    def _track(self, state, frame_idx, prompts) -> StepResult:
        log = state["rds"]
        state["num_frames"] = self._num_frames or ENDLESS
        log.reverse, log.pace = False, self.pace
        if log.start is None or not state["obj_ids"]:
            log.start = frame_idx
        if prompts:
            self._tracker.prompt(state, frame_idx, prompts)
        if not state["obj_ids"]:
            log.start = None
            return StepResult(frame_idx, [], torch.zeros(0, 1, *self.size, device=self._tracker.device), None)
        _, obj_ids, logits = self._tracker.track_frame(state, frame_idx, new=prompts)
        route = log.frames[frame_idx]
        self._totals.add(route)
        return StepResult(frame_idx, list(obj_ids), logits, route)

    def _check_prompts(self, state, prompts) -> None:
        with warnings.catch_warnings():  # what is warned of is warned of again when the prompt is added
            warnings.simplefilter("ignore")
            self._tracker.check_prompts(state, prompts)

    def _forget(self, state) -> None:
        if self._history is not None:
            oldest = max(0, self.frame_idx - self._history)
            self._tracker.forget(state, oldest)
            state["rds"].forget(oldest, max(ROUTES_KEPT, self._history + 1))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Be the only call on the tracker."""
        with _turns.setdefault(self._tracker, threading.RLock()), torch.inference_mode():
            self._check_open()
            yield

    @contextmanager
    def _in_one_piece(self, frame_idx) -> Iterator[None]:
        """Close the session if it is stopped in the middle of a frame: its state would hold half of it."""
        try:
            yield
        except BaseException as error:
            self._state = None
            self._fault = f"this session was stopped in the middle of frame {frame_idx} ({type(error).__name__})"
            raise

    def _check_open(self):
        if self._fault:
            raise RDSInputError(f"{self._fault}; start a new one with start()")


def as_prompts(prompts: Mapping[Hashable, object] | None) -> dict[Hashable, dict]:
    """Prompts by object id, as keyword arguments of ``add_new_mask`` or ``add_new_points_or_box``."""
    if prompts is None:
        return {}
    if not isinstance(prompts, Mapping):
        raise RDSInputError(
            f"prompts are a {type(prompts).__name__}; give {{obj_id: mask}} or {{obj_id: {{points: ...}}}}"
        )
    found = {}
    for obj_id, prompt in prompts.items():
        found[obj_id] = dict(prompt) if isinstance(prompt, Mapping) else {"mask": prompt}
        known = {"mask"} if "mask" in found[obj_id] else {"points", "labels", "box"}
        if unknown := sorted(found[obj_id].keys() - known):
            raise RDSInputError(
                f"prompt of object {obj_id!r} has {', '.join(map(str, unknown))}; give mask alone, or points with "
                "labels, or box"
            )
    return found
