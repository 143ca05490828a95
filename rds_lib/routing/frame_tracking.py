"""One frame after the other through SAM2: the loop under ``propagate_in_video`` and under a session's ``step``."""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from rds_lib.core.errors import RDSInputError
from rds_lib.data.prompts import check_frame_index, check_mask, check_prompt
from rds_lib.routing.memory import Reach, alike, apart, forget, together
from rds_lib.routing.starting import StartsSessions


class FrameTracking(StartsSessions):
    """What `RDSVideoPredictor` adds to SAM2's predictor to track frame by frame.

    Attributes
    ----------
    objects_at_once : int
        Objects that memory attention, decoder and memory encoder take in one batch, where all were prompted on the same
        frames. One, the default, gives SAM2's own bits. More are faster; logits of a frame then differ by under 1e-5,
        and, as memories are kept in bfloat16, by up to about 1e-3 some frames later.
    """

    objects_at_once = 1

    def check_prompts(self, inference_state, prompts: Mapping) -> None:
        """Raise if one of ``{obj_id: prompt}`` can't be taken; see `session.TrackingSession.step` for prompts."""
        for prompt in prompts.values():
            if "mask" in prompt:
                check_mask(inference_state, prompt["mask"], self.image_size)
            else:
                given = (prompt.get(name) for name in ("points", "labels", "box"))
                check_prompt(inference_state, *given, normalize_coords=True)

    def prompt(self, inference_state, frame_idx: int, prompts: Mapping) -> Tensor:
        """Add prompts on a frame and make them part of the memory; the logits (O, 1, H, W) of all objects there."""
        for obj_id, prompt in prompts.items():
            add = self.add_new_mask if "mask" in prompt else self.add_new_points_or_box
            _, _, logits = add(inference_state, frame_idx, obj_id, **prompt)
        self.propagate_in_video_preflight(inference_state)
        return logits

    def forget(self, inference_state, oldest: int) -> None:
        """Drop what frames from ``oldest`` on can't read, tracked forwards."""
        forget(inference_state, oldest, Reach.of(self))

    @torch.inference_mode()
    def propagate_in_video(self, inference_state, start_frame_idx=None, max_frame_num_to_track=None, reverse=False):
        """Track through the video, as SAM2 does; routes follow the direction of tracking."""
        if start_frame_idx is not None:
            check_frame_index(inference_state, start_frame_idx, "start_frame_idx")
        if max_frame_num_to_track is not None and max_frame_num_to_track < 0:
            raise RDSInputError(f"max_frame_num_to_track is {max_frame_num_to_track}; give 0 or more frames")
        if not inference_state["obj_ids"]:
            raise RDSInputError("no object to track; call add_new_mask or add_new_points_or_box first")
        log, objects = self._log_of(inference_state), list(inference_state["obj_ids"])
        log.start, log.reverse = start_frame_idx, bool(reverse)
        self.propagate_in_video_preflight(inference_state)
        frames = _frames_to_track(inference_state, start_frame_idx, max_frame_num_to_track, reverse)
        for frame_idx in tqdm(frames, desc="propagate in video"):
            if (now := list(inference_state["obj_ids"])) != objects:
                change = f"objects changed from {objects} to {now} while this propagate_in_video was running"
                raise RDSInputError(f"{change}; start a new one to track them")
            log.start, log.reverse = start_frame_idx, bool(reverse)
            yield self.track_frame(inference_state, frame_idx, reverse)

    @torch.inference_mode()
    def track_frame(
        self, inference_state, frame_idx: int, reverse: bool = False, *, new: Collection = ()
    ) -> tuple[int, list, Tensor]:
        """Track all objects on one frame, the next one in the direction of tracking: a step of ``propagate_in_video``.

        The objects ``new`` have a prompt on this frame that later ones may refine, as SAM2 has it before tracking; on a
        frame that was tracked it takes a prompt as a correction.

        Returns
        -------
        frame_idx : int
        obj_ids : list
        logits : Tensor, shape (O, 1, H, W)
            At the size of the video, above 0 inside.
        """
        masks, others = {}, []
        for k, outputs in inference_state["output_dict_per_obj"].items():
            if frame_idx in (prompted := outputs["cond_frame_outputs"]):
                masks[k] = prompted[frame_idx]["pred_masks"].to(inference_state["device"], non_blocking=True)
                if self.clear_non_cond_mem_around_input:
                    self._clear_obj_non_cond_mem_around_input(inference_state, frame_idx, k)
            else:
                others.append(k)
            if inference_state["obj_idx_to_id"][k] not in new:
                inference_state["frames_tracked_per_obj"][k][frame_idx] = {"reverse": reverse}
        at_once = 1 if self.non_overlap_masks_for_mem_enc else self.objects_at_once
        for group in alike(inference_state, others, frame_idx, Reach.of(self), at_once):
            masks |= zip(group, self._track_objects(inference_state, group, frame_idx, reverse).split(1), strict=True)
        ordered = [masks[k] for k in sorted(masks)]
        low = torch.cat(ordered) if len(ordered) > 1 else ordered[0]
        return frame_idx, inference_state["obj_ids"], self._get_orig_video_res_output(inference_state, low)[1]

    def _track_objects(self, inference_state, objects: list[int], frame_idx: int, reverse: bool) -> Tensor:
        """Low-resolution mask logits (O, 1, h, w) of objects whose memories are alike; their state is updated."""
        outputs = [inference_state["output_dict_per_obj"][k] for k in objects]
        is_one = len(objects) == 1
        out, masks = self._run_single_frame_inference(
            inference_state=inference_state,
            output_dict=outputs[0] if is_one else together(inference_state, objects, frame_idx, Reach.of(self)),
            frame_idx=frame_idx,
            batch_size=len(objects),
            is_init_cond_frame=False,
            point_inputs=None,
            mask_inputs=None,
            reverse=reverse,
            run_mem_encoder=True,
        )
        for own, part in zip(outputs, [out] if is_one else apart(out, len(objects)), strict=True):
            own["non_cond_frame_outputs"][frame_idx] = part
        return masks


def _frames_to_track(inference_state, start, most, reverse) -> Sequence[int]:
    """The frames of a propagation in their order, as SAM2 counts them: from the first one with a prompt by default."""
    last = inference_state["num_frames"] - 1
    if start is None:
        start = min(
            t for outputs in inference_state["output_dict_per_obj"].values() for t in outputs["cond_frame_outputs"]
        )
    most = last + 1 if most is None else most
    if not reverse:
        return range(start, min(start + most, last) + 1)
    return range(start, max(start - most, 0) - 1, -1) if start > 0 else ()
