"""What a baseline of Table 9 is, and the register that training, evaluation, benchmark, tables and figures read.

A new baseline is one module that subclasses `Method` and calls `register`. Unless it says otherwise, it trains, saves
its weights and loads them as written here.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from rds_lib.core.artifacts import in_half, read_tensors, write_tensors
from rds_lib.core.errors import RDSInputError
from rds_lib.data.batches import SequenceBatches, TrainingBatches, loader
from rds_lib.data.checkpoints import check_sizes, check_tensors
from rds_lib.data.video import load_video
from rds_lib.methods.gates import calibrate_gates, draw_from, gated, know_mean_gate, open_share, set_threshold
from rds_lib.model.adapters import add_lora, merge_lora
from rds_lib.model.backbone import backbone_of
from rds_lib.model.clip_tracking import SAM2Clips, frame_by_frame
from rds_lib.model.sam2 import build_model
from rds_lib.training.loop import Schedule, fit
from rds_lib.training.run import TrainingRun, join_processes, local_device
from rds_lib.training.tasks import clip_generators, tracking_loss

METHODS: dict[str, "Method"] = {}
FORMAT = "baseline/1"
HEADER = ("format", "method", "threshold", "config_file")  # of a file, beside what `prepare` was given
CALIBRATION_IMAGES = 24


@dataclass(frozen=True)
class Setup:
    """What all methods of a comparison share."""

    schedule: Schedule
    sequences: Sequence  # videos to train on
    calibration: Sequence  # videos on which the gates' threshold is set
    blocks: Sequence[int]  # blocks that receive adapters
    rank: int
    lr: float  # peak rate of the adapters
    config_file: str = "mini"
    checkpoint: Path | str | bool | None = None  # False: random weights
    device: str | None = None
    overrides: Sequence[str] = ()  # of the config, as of `build_model`

    def model(self, device):
        """The model that a method starts from."""
        return build_model(self.config_file, self.checkpoint, device=device, overrides=self.overrides)

    def batches(self, model, first: int, stop: int) -> TrainingBatches:
        """This process's part of the clips of steps ``first`` to ``stop`` - 1, at a model's size."""
        options = {"frames": self.schedule.frames, "size": model.image_size, "first_step": first, "steps": stop - first}
        return TrainingBatches(self.sequences, **self.schedule.share(*join_processes()), **options)

    def images(self, model, seed: int, steps: int) -> list[torch.Tensor]:
        """The frames of each clip of ``steps`` batches, (T, 3, S, S) a clip, which all processes see alike."""
        options = {"batch": self.schedule.batch, "frames": self.schedule.frames, "size": model.image_size}
        data = SequenceBatches(self.sequences, seed=seed, first_step=0, steps=steps, **options)
        return [frames for i in range(steps) for frames in data[i][0]]


class Method:
    """A way to make SAM2's encoder cheaper: subclass it, set the attributes, override what differs."""

    name: str  # key on disk: baselines/<name>/<level:g>.safetensors
    label: str  # in tables and figures
    kind: str = "smaller"  # what decides while tracking: "smaller" (nothing), "blocks" or "tokens"

    def levels(self, section) -> tuple[float, ...]:
        """The levels of a profile, as files are named; ``section`` is ``params.baselines``."""
        return section.levels

    def table_level(self, level: float) -> float:
        """The level that tables show."""
        return level

    def options(self, section) -> dict:
        """Settings of the profile that `prepare` takes and the file's header keeps; each file names all of them."""
        return {"reading": section.reading, "width": section.adapter_width}

    def recipe(self, section) -> dict:
        """Settings of the profile that `train` alone takes, such as learning rates."""
        return {}

    def prepare(self, model, level: float, *, blocks, rank: int, **options) -> None:
        """Turn a frozen model into an untrained baseline, in place; what asks for a gradient is what it trains."""
        add_lora(model, blocks, rank=rank)

    def gates(self, model) -> list:
        """The modules with a gate, in order; [] without."""
        return gated(model)

    def gate_rate(self, model, level: float) -> float:
        """Share of its gates that a prepared model is to keep open at a level."""
        return level

    def step_loss(self, model, images, targets, rate: float) -> tuple[torch.Tensor, dict]:
        """Loss of one step on clips (B, T, 3, S, S) with masks (B, T, S, S), and what to log of it."""
        loss, iou, _ = clip_step(model, images, targets)
        return loss, {"iou": round(iou, 4), "kept": open_share(model)}

    def train(self, level: float, setup: Setup, *, out: Path, workdir: Path, lr_gate=0.0, rate=None, **options) -> Path:
        """Train at one level, resuming from ``workdir``, set the gates' threshold, and write the result to ``out``.

        What decides learns at the peak rate ``lr_gate``: gates that start nearly open do not move at the adapters'
        rate. ``rate`` is the share of the gates to keep open, by default `gate_rate`; ``options`` are of `prepare`.
        """
        process, world = join_processes()
        device, schedule = setup.device or local_device(), setup.schedule
        header = {"level": level, "blocks": list(setup.blocks), "rank": setup.rank, **options}
        model = setup.model(device).requires_grad_(False)
        torch.manual_seed(schedule.seed)
        self.prepare(model, **header)
        gates, trained = self.gates(model), [p for p in model.parameters() if p.requires_grad]
        rate = self.gate_rate(model, level) if rate is None else rate
        optimizer = torch.optim.AdamW(_groups(trained, gates, setup.lr, lr_gate), weight_decay=0.0)
        parts = {"trained": torch.nn.ParameterList(trained), "optimizer": optimizer}
        run = TrainingRun(workdir, parts, total=schedule.steps, save_every=schedule.save_every, writes=process == 0)

        def clips_of(batch, step):
            draw_from(model, clip_generators(schedule.seed, step, schedule.batch, batch[2], device))
            return [tensor.to(device) for tensor in batch[:2]]

        def step_loss(batch, step):
            loss, row = self.step_loss(model, *clips_of(batch, step), rate)
            return loss, {"loss": round(loss.item(), 4), **row}

        def look(batch, step):
            know_mean_gate(model, by_frame(clips_of(batch, step)[0]))

        data = loader(setup.batches(model, run.step, run.total), device=device)
        how = {"schedule": schedule, "look": look, "blocks": backbone_of(model).blocks, "world": world}
        fit(step_loss, data, run, optimizer, trained, label=f"{self.label} {level}", **how)
        images = calibration_images(setup.calibration, model.image_size) if gates else ()
        threshold = calibrate_gates(model.eval(), rate, [image.to(device) for image in images])
        if process == 0:
            self.save(out, model, threshold=threshold, config_file=str(setup.config_file), **header)
        return out

    def save(self, path, model, **header) -> None:
        """Write what was trained, whole or not at all; ``header``: what `prepare` was given, threshold and config."""
        tensors = {name: in_half(p) for name, p in model.named_parameters() if p.requires_grad}
        broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
        if broken:
            raise RDSInputError(f"{path}: not written, NaN or infinity in {broken[:3]}; lower the learning rates")
        write_tensors(path, tensors, format=FORMAT, method=self.name, **header)

    def load(self, model, path: Path):
        """Turn a model into the trained baseline of a file, in place, adapters merged, and return it for tracking.

        Raises
        ------
        RDSInputError
            If the file is missing, another method's, or made for another model.
        """
        tensors, header = read_tensors(path)
        if (header.get("format"), header.get("method")) != (FORMAT, self.name):
            found = f"{header.get('method')!r} in format {header.get('format')!r}"
            raise RDSInputError(
                f"{path}: holds {found}, expected {self.name!r} in {FORMAT!r}; train this baseline anew"
            )
        options = {name: value for name, value in header.items() if name not in HEADER}
        check_sizes(path, header, "rank", "width")
        try:
            self.prepare(model.requires_grad_(False), **options)
            if not math.isfinite(threshold := header["threshold"]):
                raise ValueError(f"threshold = {threshold}")
        except Exception as cause:  # a header may hold anything
            fault = f"{type(cause).__name__}: {cause}"
            raise RDSInputError(f"{path}: its header cannot be used ({fault}); train this baseline anew") from cause
        own = {name: p for name, p in model.named_parameters() if p.requires_grad}
        check_tensors(tensors, {name: p.shape for name, p in own.items()}, str(path))
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(tensors[name])
        set_threshold(model, threshold)
        return merge_lora(model.requires_grad_(False)).eval()

    def trained_parameters(self, model, path: Path) -> int:
        """How many numbers the training of a loaded model moved."""
        return sum(tensor.numel() for tensor in read_tensors(path)[0].values())


def register(method: Method) -> Method:
    """Make a method take part; a second one of the same name takes the first one's place."""
    METHODS[method.name] = method
    return method


def method_of(name: str) -> Method:
    """The registered method of that name, or an error that lists them."""
    if name not in METHODS:
        raise RDSInputError(f"method {name!r} is unknown; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def clip_step(model, images, targets) -> tuple[torch.Tensor, float, dict]:
    """Loss and IoU of clips whose frames are encoded at once, and their features."""
    features = model.forward_image(by_frame(images))
    return *tracking_loss(SAM2Clips(model), frame_by_frame(features, len(images)), targets), features


def by_frame(images: torch.Tensor) -> torch.Tensor:
    """The frames of clips (B, T, 3, S, S) in one batch (T B, 3, S, S): those of frame 0 come first."""
    return images.transpose(0, 1).flatten(0, 1)


def calibration_images(sequences, size: int, n: int = CALIBRATION_IMAGES) -> list[torch.Tensor]:
    """``n`` frames as a tracker sees them, (1, 3, S, S) each, spread evenly over all videos and their length."""
    rounds = -(-n // len(sequences))
    places = [(sequence, (turn + 1) / (rounds + 1)) for turn in range(rounds) for sequence in sequences][:n]
    return [load_video([sequence.frame_paths[int(place * len(sequence))]], size)[0] for sequence, place in places]


def _groups(trained, gates, lr, lr_gate):
    """What decides learns at its own rate."""
    own = {id(p) for module in gates for p in module.decider.parameters()}
    deciding, others = [p for p in trained if id(p) in own], [p for p in trained if id(p) not in own]
    return [{"params": group, "peak": peak} for group, peak in ((others, lr), (deciding, lr_gate)) if group]
