"""What test_sharded compares: the sharded stages of a profile, run here as they are, in a process or under torchrun."""

import sys
from pathlib import Path

from rds_lib.core.artifacts import copied, write_json, write_npz
from rds_lib.data.sources import training_sequences
from rds_lib.pipeline import evaluation, headroom, importance, kept, training_runs
from rds_lib.pipeline.arms import arms, repeated_arms
from rds_lib.pipeline.params import load_params
from rds_lib.work import ranks
from rds_lib.work.processes import begin_command

METHODS = ("copy first mask", "SAM2", "RDS", "random routes", "oracle of fixed routes")


def run(params, workdir: Path, out: Path, cache: Path) -> None:
    """Importance, headroom, a calibration, and the evaluation of a few methods with two seeds."""
    kept.CACHE = cache
    evaluation.arms = lambda *given: [arm for arm in arms(*given) if arm.method in METHODS]
    evaluation.repeated_arms = lambda *given: [arm for arm in repeated_arms(*given) if arm.method in METHODS]
    with ranks.shared(), ranks.written_by_first(out) as place:
        importance.run(params, workdir, place / "importance")
        headroom.run(params, workdir, place / "headroom")
        evaluation.run(params, workdir, place / "evaluation")
        with copied(workdir / "train" / "rds_0.5.safetensors", place / "rds.safetensors") as path:
            rows, w = training_runs.calibrate_run(params, path, (0.5,), training_sequences(params, workdir)[1])
        write_json(place / "calibration.json", rows[0])
        write_npz(place / "w.npz", w=w[0.5])


if __name__ == "__main__":
    begin_command()
    profile, workdir, out, cache = map(Path, sys.argv[1:])
    run(load_params("smoke", profile), workdir, out, cache)
