"""Kill whole commands at random moments, run them again, and compare with an undisturbed run, byte by byte.

    python benchmarks/kills.py [generate train baselines track evaluate evaluation repro] [--kills 20] [--seed 0]

Every target runs in a copy of the tracked files, with profile smoke. Every second kill hits the main process alone, as
the kernel's memory killer does, the others its whole process group. Kills that come after the end do not count. A row a
target: kills, at which seconds, reruns that were equal, reruns that failed, processes alive 4 s after a kill,
temporaries and locks left in the end. `dvc repro` is killed again and again on its way to the end. Files that hold
times are not compared; nor is what differs between two undisturbed runs, which is named. Minutes a target on an idle
machine.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rds_lib.core.artifacts import TEMPORARY
from rds_lib.core.paths import ROOT
from rds_lib.work.finished import digests
from rds_lib.work.locks import LOCK

MARK = "RDS_KILLS"  # in the environment of all that a run starts
RUN = [sys.executable, "-m", "rds_lib"]
SMOKE = ["--profile", "smoke"]
VIDEO, FIRST = "clips/val/davis2017/JPEGImages/480p/{}", "clips/val/davis2017/Annotations/480p/{}/00000.png"
TARGETS = {  # command, and what it writes
    "generate": ([*RUN, "data", "generate", *SMOKE, "--out", "out"], ["out"]),
    "train": ([*RUN, "train", "0.4", *SMOKE], [".cache/train"]),
    "baselines": ([*RUN, "baselines", *SMOKE, "--method", "pbd"], [".cache/train"]),
    "track": ([*RUN, "track", VIDEO, "--mask", FIRST, "--out", "out", "--no-overlay", "--overwrite"], ["out"]),
    "evaluate": ([*RUN, "evaluate", "--data", "clips/val/davis2017", "--out", "out", "--overwrite"], ["out"]),
    "evaluation": ([*RUN, "notebook", "run", "05_evaluation", *SMOKE], ["runs/smoke/evaluation"]),
    "repro": (["dvc", "repro"], ["runs"]),
}
BESIDE = {"repro": [".cache", ".dvc/cache", ".dvc/tmp", "build", "data", "dvc.lock"]}  # that a fresh run is without
CHAINED = ("repro",)
STARTUP = 5.0  # seconds until DVC is at work
HEAD = (
    "| target | kills at work | at second | equal after a rerun | reruns failed | alive after 4 s | left | differ "
    "undisturbed |\n|---|---|---|---|---|---|---|---|"
)
HOLD_TIMES = ("inspector.html", ".rds-manifest.json")


def copy_of_the_tree(folder: Path) -> Path:
    """The tracked files, and the products that single commands need."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    config, params = folder / ".dvc" / "config", folder / "params.yaml"
    text = config.read_text(encoding="utf-8").replace("$Format:%n    no_scm = true$", "\n    no_scm = true\n    #")
    config.write_text(text, encoding="utf-8")
    params.write_text("profile: smoke\n", encoding="utf-8")
    return folder


def start(command: list[str], tree: Path, token: str) -> subprocess.Popen:
    """Start a command in the copy, in a process group of its own."""
    environment = {**os.environ, "PYTHONPATH": str(tree), "TQDM_DISABLE": "1", MARK: token}
    with open(tree / "output.txt", "ab") as output:
        return subprocess.Popen(
            command, cwd=tree, env=environment, stdout=output, stderr=output, start_new_session=True
        )


def alive(token: str) -> list[int]:
    """The processes that a run started and that are still there."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if f"{MARK}={token}".encode() in (folder / "environ").read_bytes().split(b"\0") and state != "Z":
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def content(tree: Path, products: list[str]) -> dict[str, str]:
    """SHA-256 of all files below the products."""
    files = [path for product in products for path in (tree / product).rglob("*") if path.is_file()]
    return digests(tree, [path for path in files if path.name not in HOLD_TIMES])


def clear(tree: Path, name: str) -> None:
    """Remove what a target's run wrote."""
    for product in TARGETS[name][1] + BESIDE.get(name, []):
        path = tree / product
        path.unlink(missing_ok=True) if path.is_file() else shutil.rmtree(path, ignore_errors=True)


def run_whole(name, command, tree, products) -> tuple[float, dict[str, str]]:
    """Seconds and products of an undisturbed run."""
    clear(tree, name)
    began = time.monotonic()
    if start(command, tree, "whole").wait():
        sys.exit(f"{' '.join(command)} failed undisturbed; see {tree / 'output.txt'}")
    return time.monotonic() - began, content(tree, products)


def kill_once(command, tree, second: float, whole_group: bool, token: str) -> tuple[bool, int]:
    """Kill a run at a second; whether it was still at work, and how many of its processes lived on for 4 s."""
    process = start(command, tree, token)
    try:
        process.wait(second)
        return False, 0
    except subprocess.TimeoutExpired:
        (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
    time.sleep(4)
    left = alive(token)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return True, len(left)


def try_target(name: str, tree: Path, kills: int, rng: random.Random) -> str:
    """A row of the table."""
    command, products = TARGETS[name]
    clip = next(iter(sorted(path.name for path in (tree / VIDEO.format("")).glob("*"))), "")
    command = [part.format(clip) for part in command]
    (seconds, first), (again, second) = (run_whole(name, command, tree, products) for _ in range(2))
    stable = {path: mark for path, mark in first.items() if second.get(path) == mark}
    seconds = min(seconds, again)  # the first run finds nothing in the machine's memory yet
    in_a_row, between = 1, (0, seconds)
    if name in CHAINED:
        in_a_row, between = kills, (STARTUP, STARTUP + 2 * seconds / kills)
    moments, compared, equal, failed, lived, left = [], 0, 0, 0, 0, 0
    while len(moments) < kills:
        clear(tree, name)
        before = len(moments)
        for hits in range(before, min(kills, before + in_a_row)):
            moment = rng.uniform(*between)
            was_hit, alive_after = kill_once(command, tree, moment, hits % 2 == 1, f"{os.getpid()}-{name}-{hits}")
            if not was_hit:
                break
            moments.append(f"{moment:.0f}")
            lived += alive_after
        if len(moments) == before:
            continue
        failed += bool(start(command, tree, "again").wait())
        now, compared = content(tree, products), compared + 1
        equal += {path: now.get(path) for path in stable} == stable and now.keys() == first.keys()
        left += sum(path.name.startswith((TEMPORARY, LOCK)) for path in tree.rglob(".*"))
    unstable = ", ".join(sorted(set(first) - set(stable))) or "none"
    return (
        f"| {name} | {len(moments)} | {', '.join(moments)} of {seconds:.0f} | {equal} of {compared} | {failed} "
        f"| {lived} | {left} | {unstable} |"
    )


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"some of {', '.join(TARGETS)}; by default generate and track")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if unknown := set(given.targets) - TARGETS.keys():
        parser.error(f"no target {', '.join(sorted(unknown))}")
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        tree = copy_of_the_tree(Path(folder) / "tree")
        if start([*RUN, "data", "generate", *SMOKE, "--out", "clips"], tree, "before").wait():
            sys.exit(f"the clips could not be made; see {tree / 'output.txt'}")
        print(HEAD)
        for name in given.targets or ["generate", "track"]:
            print(try_target(name, tree, given.kills, rng), flush=True)


if __name__ == "__main__":
    main()
