"""From frames on disk to masks on disk: frames a second with all that is around the model, and memory."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from rds_lib.data.images import write_palette_png
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.benchmark import DTYPES
from rds_lib.evaluation.workload import parameter_bytes
from rds_lib.model.stopwatch import clock_of
from rds_lib.model.track import painted


@torch.inference_mode()
def whole_videos(arms: Sequence[Arm], clip, *, dtype: str, repeats: int) -> pd.DataFrame:
    """Frames a second from JPEG files on disk to PNG masks on disk, and memory: each arm in turn, one object or more.

    Returns
    -------
    DataFrame, one row per arm and repeat
        ``fps`` over the whole clip, reading all frames first, as SAM2 does; ``peak_mib``, the weights and what the
        device held beside them at most while the clip was tracked, NaN on a CPU.
    """
    rows = []
    for number in range(repeats):
        turn = number % len(arms)
        for arm in [*arms[turn:], *arms[:turn]]:
            predictor = arm.build()
            with torch.autocast(predictor.device.type, DTYPES[dtype], enabled=dtype != "float32"):
                found = _whole_video(predictor, *clip)
            rows.append({"method": arm.method, "level": arm.level, "repeat": number, **found})
    return pd.DataFrame(rows)


def _whole_video(predictor, video, prompts):
    on_gpu = predictor.device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    with tempfile.TemporaryDirectory() as folder:
        clock = clock_of(predictor.device)
        began = clock()
        state = predictor.init_state(str(video))
        for obj_id, mask in prompts.items():
            predictor.add_new_mask(state, 0, obj_id, mask)
        for t, obj_ids, logits in predictor.propagate_in_video(state):
            write_palette_png(Path(folder) / f"{t:05d}.png", painted(obj_ids, logits))
        seconds = clock() - began
    peak = torch.cuda.max_memory_allocated() - before + parameter_bytes(predictor) if on_gpu else np.nan
    return {"frames": state["num_frames"], "fps": state["num_frames"] / seconds, "peak_mib": peak / 2**20}
