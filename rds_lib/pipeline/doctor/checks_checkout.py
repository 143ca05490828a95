"""Git, DVC and other runs: what state the checkout is in, which stages would run, and who is at work in it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from rds_lib.core import paths
from rds_lib.core.artifacts import read_text
from rds_lib.pipeline.doctor.chain import IMPORTED, Chain
from rds_lib.pipeline.doctor.finding import ERROR, EVERY, OK, WARNING, Finding, listed
from rds_lib.pipeline.stages import STAGES
from rds_lib.work.locks import holder

PATIENCE = 8  # seconds for a program of others


def check_git() -> Finding:
    """The commit and what was changed since; without git DVC has to be told so."""
    if not (paths.ROOT / ".git").exists():
        configs = [paths.ROOT / ".dvc" / name for name in ("config", "config.local")]
        if any("no_scm = true" in read_text(path) for path in configs if path.is_file()):
            return Finding("git", OK, "no repository, as DVC knows: an archive of one")
        fix = "dvc config --local core.no_scm true (make repro does it)"
        return Finding("git", WARNING, "no repository, and DVC has not been told", fix)
    commit, changed = _run("git", "rev-parse", "--short", "HEAD"), _run("git", "status", "--porcelain")
    if commit is None or changed is None:
        return Finding("git", WARNING, "the repository cannot be read by git", "git status, which says why")
    files = [line[3:] for line in changed.splitlines()]
    branch = (_run("git", "rev-parse", "--abbrev-ref", "HEAD") or "").strip()
    return Finding("git", OK, f"{commit.strip()} on {branch}" + (f", changed: {listed(files, 3)}" if files else ""))


def check_dvc(profile: str, default: str | None, chain: Chain) -> tuple[Finding, set[str] | None]:
    """What DVC says of its lock and this profile; also the stages that would run, None where that is not known."""
    name, stages = "DVC", [stage for stage in chain.deps if stage not in chain.frozen]
    if not (paths.ROOT / ".dvc").is_dir():
        fix = "git checkout .dvc, or clone the repository anew"
        return Finding(name, ERROR, "no folder .dvc: this is no DVC repository", fix, EVERY), None
    if not (paths.ROOT / "dvc.lock").is_file():
        fix = "git checkout dvc.lock, or nothing: the next run writes it"
        return Finding(name, WARNING, "dvc.lock is missing: every stage runs", fix), set(stages)
    if profile != default:
        found = f"params.yaml names {default}: every stage of {profile} that DVC has not kept runs"
        return Finding(name, OK, found, f"dvc exp run -S profile={profile}"), None
    text = _run(sys.executable, "-m", "dvc", "status", "--json")
    try:
        changed = json.loads(text or "")
    except ValueError:
        return Finding(name, OK, "dvc status had no answer in time: which stages would run is not known"), None
    first = [stage for stage in stages if stage in changed]
    first += [stage for copy in IMPORTED if f"{copy}.dvc" in changed for stage in chain.readers(copy)]
    todo = chain.after(first) - chain.frozen
    if not todo:
        return Finding(name, OK, "all stages are up to date"), todo
    rest = "all stages" if len(todo) == len(stages) else listed([stage for stage in stages if stage in todo], 20)
    return Finding(name, OK, f"would run: {rest}"), todo


def check_runs(profile: str, chain: Chain) -> Iterator[Finding]:
    """Other runs at work in the places of this profile: a stage that is held is refused, a training is waited for."""
    products = paths.products(profile)
    places = [(products / name, (name,)) for name in STAGES]
    places += [
        (products / "executed" / f"{stage.notebook}.ipynb", (name,)) for name, stage in STAGES.items() if stage.notebook
    ]
    places.append((paths.BUILD / "clips", ("clips",)))
    held = [(f"{paths.shown(place)}: in use by {who}", stops) for place, stops in places if (who := holder(place))]
    stops = {name for _, names in held for name in names} & chain.deps.keys()
    texts = [text for text, _ in held] + list(_dvc_runs())
    if texts:
        state = ERROR if stops else WARNING
        yield Finding("other runs", state, "; ".join(texts[:2]), "wait until it ends", tuple(sorted(stops)))
        return
    waiting = [who for folder in _trainings() if (who := holder(folder))]
    if waiting:
        yield Finding(
            "other runs", WARNING, f"a training is in use by {waiting[0]}", "wait: a stage that needs it does"
        )
    else:
        yield Finding("other runs", OK, "none")


def recorded_hashes(folder: str) -> dict[str, tuple[str, str]]:
    """Kind and value of the hash that git's last commit, or else ``dvc.lock``, has for the files of a folder."""
    listing = _run("git", "ls-tree", "-r", "HEAD", folder) if (paths.ROOT / ".git").exists() else None
    if listing:
        rows = (line.split(maxsplit=3) for line in listing.splitlines())
        return {name: ("git", value) for _, _, value, name in rows}
    lock = paths.ROOT / "dvc.lock"
    lines = read_text(lock).splitlines() if lock.is_file() else []
    marks = [line.strip().removeprefix("- ").partition(": ")[::2] for line in lines]
    found, path = {}, ""
    for key, value in marks:
        path = value if key == "path" else path
        if key == "md5" and path.startswith(f"{folder}/"):
            found.setdefault(path, ("md5", value))
    return found


def _dvc_runs() -> Iterable[str]:
    """Processes that DVC has noted as reading or writing here, and that live."""
    path, found = paths.ROOT / ".dvc" / "tmp" / "rwlock", {}
    with suppress(OSError, ValueError, AttributeError, KeyError, TypeError):
        content = json.loads(path.read_text(encoding="utf-8"))
        readers = [item for items in content.get("read", {}).values() for item in items]
        found = {item["pid"]: item["cmd"] for item in [*content.get("write", {}).values(), *readers]}
    return [f"DVC is at work: process {pid} ({str(cmd)[-80:]})" for pid, cmd in found.items() if _lives(pid)]


def _lives(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, OverflowError):
        return False
    return True


def _trainings() -> Iterable[Path]:
    homes = [paths.CACHE / "train", paths.CACHE / "pretrain"]
    return [folder for home in homes if home.is_dir() for folder in sorted(home.iterdir()) if folder.is_dir()]


def _run(*command: str) -> str | None:
    """What a program prints; None if it fails, is not there or takes too long."""
    try:
        done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, timeout=PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
