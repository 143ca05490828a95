"""RDSVideoPredictor: SAM2's video predictor with one route per frame through its image encoder."""

import pandas as pd
import torch
from sam2.sam2_video_predictor import SAM2VideoPredictor
from torch import Tensor

from rds_lib.data.hub import known
from rds_lib.data.prompts import check_frame_index, check_mask, check_prompt
from rds_lib.data.video import load_video, start_loading
from rds_lib.model.backbone import HieraBackbone
from rds_lib.routing.deployed import RoutingPolicy
from rds_lib.routing.engine.steps import Engine
from rds_lib.routing.frame_router import FrameRouter, Routed
from rds_lib.routing.frame_tracking import FrameTracking
from rds_lib.routing.route_table import RouteLog

PER_OBJECT = "point_inputs mask_inputs output_dict temp_output_dict frames_tracked".split()  # dicts in SAM2's state


class RDSVideoPredictor(Routed, FrameTracking, SAM2VideoPredictor):
    """SAM2's video predictor, with a route per frame through the image encoder.

    The route of frame t follows from the union of the available masks of frame t-1 (t+1 when tracking in reverse). The
    full encoder runs on the first frame, on frames with a prompt, and where no previous mask shows anything: a lost
    object is searched with everything on. Without a policy (``routing="full"``) every frame takes SAM2's own path.

    Build it with `build.build_rds_video_predictor`. Adding or removing an object while a ``propagate_in_video``
    generator is live makes that generator raise at its next step (stock SAM2 ignores the change); start a new one. For
    frames as they come, of a video of any length, see `start`.
    """

    backbone_type = HieraBackbone

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.backbone = self.backbone_type(self)  # neither is a submodule: the state dict stays SAM2's
        self.frame_router = FrameRouter(self.backbone)
        self.engine = Engine()

    def set_policy(self, policy: RoutingPolicy | None) -> None:
        """Route by ``policy`` from now on, its router in the engine's form; None runs all blocks."""
        super().set_policy(self.engine.policy(policy))

    def route_table(self, inference_state) -> pd.DataFrame:
        """Return the latest routes of all frames encoded so far, one row per frame and block.

        Columns: ``frame_idx``, ``block``, ``active`` (bool), ``keep_prob`` (1 where the block had to run), ``reason``.
        ``attrs["invalid_frames"]`` counts frames with NaN.
        """
        return self._log_of(inference_state).table()

    def timed_parts(self) -> dict[str, tuple[object, str]]:
        """Name what to time of a frame: owner and methods of the encoding as a whole ("encoder") and of its routing."""
        return {"encoder": (self, "_get_image_feature"), "router": (self.frame_router, "ask answer")}

    @classmethod
    def from_pretrained(cls, model_id: str, **kwargs) -> "SAM2VideoPredictor":
        """Load a model by its id on the hub; ``kwargs`` go to `build_rds_video_predictor`."""
        from rds_lib.routing.build import build_rds_video_predictor

        return build_rds_video_predictor(known(model_id)[0], model_id, **kwargs)

    @torch.inference_mode()
    def init_state(
        self, video_path, offload_video_to_cpu=False, offload_state_to_cpu=False, async_loading_frames=False
    ):
        """Start a session on a video: a folder of frames, a video file, or an array (T, H, W, 3).

        ``async_loading_frames`` lets a thread load the frames of a folder or list after the first: the same bits.
        """
        place = torch.device("cpu") if offload_video_to_cpu else self.device
        if async_loading_frames:
            images, height, width = start_loading(video_path, self.image_size, place)
        else:
            images, height, width = load_video(video_path, self.image_size)
            images = images.to(place)
        state = self.new_state(images, len(images), (height, width)) | {
            "storage_device": torch.device("cpu") if offload_state_to_cpu else self.device,
            "offload_video_to_cpu": offload_video_to_cpu,
            "offload_state_to_cpu": offload_state_to_cpu,
        }
        self._get_image_feature(state, frame_idx=0, batch_size=1)
        return state

    def new_state(self, images, num_frames: int, size: tuple[int, int]) -> dict:
        """An inference state before its first prompt: SAM2's keys, for frames of ``size`` (H, W) px."""
        state = {f"{name}_per_obj": {} for name in PER_OBJECT}
        state |= {name: {} for name in ("cached_features", "constants", "obj_id_to_idx", "obj_idx_to_id")}
        state |= {"images": images, "num_frames": num_frames, "video_height": size[0], "video_width": size[1]}
        state |= {"device": self.device, "storage_device": self.device, "obj_ids": []}
        return state | {"offload_video_to_cpu": False, "offload_state_to_cpu": False, "rds": RouteLog()}

    def add_new_points_or_box(
        self,
        inference_state,
        frame_idx,
        obj_id,
        points=None,
        labels=None,
        clear_old_points=True,
        normalize_coords=True,
        box=None,
    ):
        """Add points or a box on a frame, as SAM2 does; bad input raises ``RDSInputError`` and changes nothing."""
        check_frame_index(inference_state, frame_idx)
        check_prompt(inference_state, points, labels, box, normalize_coords)
        return super().add_new_points_or_box(
            inference_state, frame_idx, obj_id, points, labels, clear_old_points, normalize_coords, box
        )

    def add_new_mask(self, inference_state, frame_idx, obj_id, mask):
        """Add a mask on a frame, as SAM2 does; bad input raises ``RDSInputError`` and changes nothing."""
        check_frame_index(inference_state, frame_idx)
        check_mask(inference_state, mask, self.image_size)
        return super().add_new_mask(inference_state, frame_idx, obj_id, mask)

    def reset_state(self, inference_state):
        """Remove all prompts, results and routes."""
        super().reset_state(inference_state)
        inference_state["cached_features"] = {}
        inference_state["rds"] = RouteLog()

    def _clear_obj_non_cond_mem_around_input(self, inference_state, frame_idx, obj_idx):
        """Drop one object's outdated memory around a prompted frame; stock SAM2 calls this and does not define it."""
        reach = self.memory_temporal_stride_for_eval * self.num_maskmem
        outputs = inference_state["output_dict_per_obj"][obj_idx]["non_cond_frame_outputs"]
        for t in range(frame_idx - reach, frame_idx + reach + 1):
            if t != frame_idx:
                outputs.pop(t, None)

    def _run_single_frame_inference(self, *args, **kwargs):
        """Track one frame, as SAM2 does, and keep its memory usable without autocast."""
        out, masks = super()._run_single_frame_inference(*args, **kwargs)
        return out | {"maskmem_features": self._memory_in_weight_dtype(out["maskmem_features"])}, masks

    def _run_memory_encoder(self, *args, **kwargs):
        features, positions = super()._run_memory_encoder(*args, **kwargs)
        return self._memory_in_weight_dtype(features), positions

    def _memory_in_weight_dtype(self, memory):
        """Cast SAM2's bfloat16 memory, unless under autocast: its weights accept it then, or beside an object pointer.

        The values stay rounded, so results do not change.
        """
        if memory is None or torch.is_autocast_enabled(self.device.type):
            return memory
        return memory.to(self.maskmem_tpos_enc.dtype)

    def _apply(self, fn, *args, **kwargs):
        """Let ``.to(...)`` reach the router too."""
        if self.policy is not None:
            self.policy.router._apply(fn)
        return super()._apply(fn, *args, **kwargs)

    def _get_image_feature(self, inference_state, frame_idx, batch_size):
        """Route and encode a frame unless its features are cached; a prompted frame never uses routed features."""
        self.engine.check_autocast(self.device)
        log, masks = self._log_of(inference_state), self._previous_masks(inference_state, frame_idx)
        reason, known = self._reason_for_full(inference_state, frame_idx, masks), log.frames.get(frame_idx)
        is_cached = frame_idx in inference_state["cached_features"] and known is not None
        if is_cached and (reason is None or all(known.active)):
            if reason is not None:
                log.frames[frame_idx] = known._replace(reason=reason)
        elif reason is not None or not self.frame_router.is_active:
            inference_state["cached_features"] = {}  # SAM2 encodes the frame, below
            log.frames[frame_idx] = self.frame_router.full(reason or "routed")
        else:
            image = inference_state["images"][frame_idx].to(inference_state["device"]).float().unsqueeze(0)
            tokens = self.backbone.embed(image)
            asked = self.frame_router.ask(tokens, masks, frame_idx, log)
            inference_state["cached_features"] = {frame_idx: (image, self.backbone.run(tokens, asked))}
            log.frames[frame_idx] = asked.route
        found = super()._get_image_feature(inference_state, frame_idx, batch_size)
        if self.frame_router.is_active:  # SAM2 calls an object absent where features hold NaN, and says nothing
            features = inference_state["cached_features"][frame_idx][1]["vision_features"]
            log.flaws[frame_idx] = 0 * features.sum(dtype=torch.float32)  # stays on its device
        return found

    def _previous_masks(self, inference_state, frame_idx) -> list[Tensor]:
        """Available mask logits (1, 1, H, W) of the previous frame in the direction of tracking, one per object."""
        t = frame_idx + 1 if self._log_of(inference_state).reverse else frame_idx - 1
        results = inference_state["output_dict_per_obj"].values()
        found = [outputs[key].get(t) for outputs in results for key in ("cond_frame_outputs", "non_cond_frame_outputs")]
        return [out["pred_masks"] for out in found if out is not None and out["pred_masks"] is not None]

    def _reason_for_full(self, inference_state, frame_idx, masks) -> str | None:
        """Why a frame runs in full for its prompt or for want of masks, or None.

        Masks that are there and show nothing, or hold NaN, are for `FrameRouter.route` to judge.
        """
        prompts = [*inference_state["point_inputs_per_obj"].values(), *inference_state["mask_inputs_per_obj"].values()]
        is_prompted = any(frame_idx in frames for frames in prompts)
        if masks and not is_prompted:
            return None
        start = self._log_of(inference_state).start
        if start is None:
            start = min((t for frames in prompts for t in frames), default=0)
        if frame_idx == start and not masks:
            return "first_frame"
        return "prompted" if is_prompted else "no_previous_mask"

    @staticmethod
    def _log_of(inference_state) -> RouteLog:
        return inference_state.setdefault("rds", RouteLog())
