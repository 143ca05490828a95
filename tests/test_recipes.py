"""The recipes for clusters run as they stand: two nodes of one CPU process each in the place of a cluster."""

import os
import shutil
import socket
import subprocess
import sys

import pytest

from rds_lib.core import paths

RECIPES = paths.ROOT / "recipes"
SRUN = f"""#!/bin/bash
# what srun does: the same command on every node
shift  # --ntasks-per-node=1
command=$1; shift
[ "$command" = torchrun ] || exit 9
for node in $(seq "$SLURM_JOB_NUM_NODES"); do
  {sys.executable} -m torch.distributed.run "$@" &
  started="$started $!"
done
code=0
for each in $started; do wait "$each" || code=$?; done
exit $code
"""
SCONTROL = (
    '#!/bin/bash\n[ "$1 $2" = "show hostnames" ] && for node in $(seq "$SLURM_JOB_NUM_NODES"); do echo "$3"; done\n'
)
DVC = '#!/bin/bash\necho "$@" >> dvc-calls\n'


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """What a recipe needs of the repository, with profile smoke; nothing in it is the real one's."""
    root = tmp_path_factory.mktemp("repository")
    for name in ("rds_lib", "recipes", "params", "assets"):
        shutil.copytree(paths.ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("dvc.yaml", "data.dvc"):
        shutil.copyfile(paths.ROOT / name, root / name)
    (root / "params.yaml").write_text("profile: smoke\n")
    (root / "bin").mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("dvc", DVC)):
        (root / "bin" / name).write_text(text)
        (root / "bin" / name).chmod(0o755)
    return root


def sbatch(root, recipe, *stages, nodes=2, processes=1):
    """Run a recipe with the variables that Slurm sets."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    slurm = {"SLURM_SUBMIT_DIR": root, "SLURM_JOB_ID": 7, "SLURM_JOB_NODELIST": "localhost", "PORT": port}
    slurm |= {"SLURM_JOB_NUM_NODES": nodes, "SLURM_GPUS_ON_NODE": processes}
    given = {**os.environ, "PATH": f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(root)}
    given |= {name: str(value) for name, value in slurm.items()}
    command = ["bash", str(root / "recipes" / "slurm" / recipe), *stages]
    return subprocess.run(command, cwd=root.parent, env=given, capture_output=True, text=True, timeout=500)


@pytest.mark.parametrize(("recipe", "stage"), [("train.sbatch", "importance"), ("evaluate.sbatch", "headroom")])
def test_two_nodes_do_a_stage_together_and_dvc_comes_after(recipe, stage, repository):
    (repository / "dvc-calls").unlink(missing_ok=True)
    done = sbatch(repository, recipe, stage)
    assert done.returncode == 0, done.stderr
    (product,) = (repository / ".cache" / "stages").glob(f"smoke-{stage}-*")
    assert (product / "product" / {"importance": "importance.csv", "headroom": "headroom.json"}[stage]).is_file()
    assert (repository / "dvc-calls").read_text() == f"repro --single-item {stage}\n"


def test_a_stage_that_fails_ends_the_job_before_dvc_runs(repository):
    (repository / "dvc-calls").unlink(missing_ok=True)
    done = sbatch(repository, "evaluate.sbatch", "benchmark", nodes=1)
    assert done.returncode != 0 and not (repository / "dvc-calls").exists()
    assert "stage 'benchmark' cannot be made ahead" in done.stderr


@pytest.mark.parametrize(
    ("recipe", "stages"),
    [("train.sbatch", "headroom importance train baselines"), ("evaluate.sbatch", "evaluation dinov3")],
)
def test_without_stages_a_recipe_does_all_of_its_kind_in_their_order(recipe, stages, repository):
    (repository / "dvc-calls").unlink(missing_ok=True)
    srun = repository / "bin" / "srun"
    srun.write_text('#!/bin/bash\necho "$@" >> dvc-calls\n')
    try:
        assert sbatch(repository, recipe, nodes=4, processes=8).returncode == 0
    finally:
        srun.write_text(SRUN)
    calls = (repository / "dvc-calls").read_text().splitlines()
    assert [line.split()[-1] for line in calls[::2]] == stages.split()
    assert calls[1::2] == [f"repro --single-item {stage}" for stage in stages.split()]
    assert "--nnodes=4 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=localhost:" in calls[0]


def test_experiments_are_queued_one_for_each_value(repository):
    (repository / "dvc-calls").unlink(missing_ok=True)
    given = {**os.environ, "PATH": f"{repository / 'bin'}{os.pathsep}{os.environ['PATH']}", "STAGE": "train"}
    command = ["bash", "recipes/dvc/queue.sh", "smoke", "train.lr_router", "1.0e-3", "2"]
    assert subprocess.run(command, cwd=repository, env=given).returncode == 0
    cells, first, second, *rest = (repository / "dvc-calls").read_text().splitlines()
    named = "exp run --queue --name smoke-train-lr-router-"
    assert first == f"{named}1-0e-3 -S profile=smoke -S params/smoke.yaml:train.lr_router=1.0e-3 train"
    assert second == f"{named}2 -S profile=smoke -S params/smoke.yaml:train.lr_router=2 train"
    assert cells == "repro source"
    assert rest == ["queue start --jobs 2", "queue status"]


def test_what_each_user_must_change_stands_at_the_top():
    for recipe in sorted((RECIPES / "slurm").glob("*.sbatch")):
        lines = recipe.read_text().splitlines()
        options = [n for n, line in enumerate(lines) if line.startswith("#SBATCH")]
        assert options == list(range(options[0], options[-1] + 1)) and options[0] < 5
        assert {"--account=CHANGE-ME", "--partition=CHANGE-ME"} < {lines[n].split()[-1] for n in options}
