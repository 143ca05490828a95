"""How long the stages of a profile take here: a tracked frame and a training step are timed, and counts multiplied."""

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from rds_lib.core.threads import SMALL
from rds_lib.data.clips import write_timing_clip
from rds_lib.data.hub import cached, checkpoint_named, is_id
from rds_lib.model.adapters import add_lora
from rds_lib.model.backbone import backbone_of
from rds_lib.model.clip_tracking import SAM2Clips
from rds_lib.model.sam2 import build_model
from rds_lib.model.stopwatch import clock_of
from rds_lib.pipeline.doctor.work import Work, work_of
from rds_lib.pipeline.training_runs import schedule_of
from rds_lib.routing.router import PredictionAwareRouter
from rds_lib.training.rds import RoutedClip
from rds_lib.training.run import local_device
from rds_lib.training.tasks import clip_generators, tracking_loss

FRAMES = 6  # of the timed clip; the first two are not counted
USUAL_FRAME = 0.05  # seconds, of the core that `Work.seconds` are those of
BUDGET = 0.6  # of the timed step
TOGETHER = 1.35  # time of work while all cores are at work, over that alone: a run of 46 min, with 52 ms a frame


@dataclass(frozen=True)
class Speeds:
    """What was timed: seconds of a tracked frame with one object and of a training step, and the step's memory."""

    frame: float
    step: float
    device: str
    memory: int = 0  # bytes on a GPU


def measure(params) -> Speeds:
    """Time one clip and one step with the profile's model; where its weights are missing, random ones are as fast.

    Raises
    ------
    MemoryError
        If the GPU does not hold a step.
    """
    device, config = local_device(), params.model.config
    checkpoint = checkpoint_named(params.model.checkpoint)
    if checkpoint and is_id(checkpoint):
        checkpoint = cached(checkpoint) or Path()
    is_there = checkpoint.is_file() if checkpoint else config in SMALL
    try:
        model = build_model(config, checkpoint if is_there else False, device=device)
        frame = _time_frame(model, params.clips, device)
        step, memory = _time_step(model, params, device)
    except torch.OutOfMemoryError as error:
        raise MemoryError(f"the memory of {device} does not hold a training step of {config}") from error
    return Speeds(frame, step, device, memory)


def estimate(params, sets: Mapping[str, tuple[int, int]], speeds: Speeds, workers: int) -> dict[str, float]:
    """Seconds by stage; a DINOv3 other than the mini one is left out, since nothing of it was timed."""
    found = {name: _seconds(work, speeds, workers) for name, work in work_of(params, sets).items()}
    if params.dinov3.checkpoint != "mini":
        del found["dinov3"]
    return found


def _seconds(work: Work, speeds: Speeds, workers: int) -> float:
    is_cpu = speeds.device == "cpu"
    model = work.frames * speeds.frame + work.steps * speeds.step
    if is_cpu and work.shared and workers > 1:
        model *= TOGETHER / workers
    return model + work.seconds * (speeds.frame / USUAL_FRAME if is_cpu else 1)


@torch.inference_mode()
def _time_frame(model, clips, device: str) -> float:
    """Median seconds of a frame after the first two."""
    times = []
    on_gpu = torch.autocast("cuda", torch.bfloat16) if device != "cpu" else nullcontext()
    with tempfile.TemporaryDirectory() as folder, on_gpu:
        prompts = write_timing_clip(Path(folder), clips, frames=FRAMES)
        state = model.init_state(folder)
        model.add_new_mask(state, 0, 1, prompts[1])
        clock = clock_of(torch.device(device))
        began = clock()
        for _ in model.propagate_in_video(state):
            times.append(clock() - began)
            began = clock()
    return sorted(times[2:])[(FRAMES - 2) // 2]


def _time_step(model, params, device: str) -> tuple[float, int]:
    """Seconds of a step of RDS, and its memory on a GPU, where a first step warms up; ``k_sel`` blocks are adapted."""
    section, backbone = params.train, backbone_of(model)
    tracker = SAM2Clips(model.requires_grad_(False))
    add_lora(tracker, range(min(params.importance.k_sel, backbone.depth)), rank=section.lora_rank)
    router = PredictionAwareRouter.for_backbone(backbone, hidden=section.router_hidden).to(device).train()
    side = backbone.image_size
    images = torch.randn(section.batch, section.frames, 3, side, side, device=device)
    targets = torch.zeros(section.batch, section.frames, side, side, device=device)
    targets[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    clock = clock_of(torch.device(device))
    for seed in range(1 if device == "cpu" else 2):
        began, generators = clock(), clip_generators(seed, 0, section.batch, range(section.batch), device)
        clip = RoutedClip(backbone, router, images, torch.full((section.batch,), BUDGET, device=device), generators)
        with schedule_of(section).autocast(device):
            loss, _ = tracking_loss(tracker, clip.encode, targets)
        loss.backward()
        took = clock() - began
    return took, torch.cuda.max_memory_allocated() if device != "cpu" else 0
