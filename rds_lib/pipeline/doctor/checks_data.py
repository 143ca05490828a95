"""The data sets of a profile: the folders and lists are there, and every sequence of a list has frames and masks."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError
from rds_lib.data.layouts import check_split, locate, read_index
from rds_lib.data.sources import FOLDERS, LAYOUTS
from rds_lib.pipeline.doctor.finding import ERROR, OK, WARNING, Finding, guarded, listed

PICTURES = (".jpg", ".jpeg", ".png")
TRAINED = ("importance", "headroom", "train", "baselines", "dinov3")  # stages that read the clips to train on
SCORED = ("data", "evaluation", "dinov3", "figures")


def check_data(params) -> Iterator[Finding]:
    """Every set that the profile trains, validates or draws on."""
    data, wanted = params.data, params.evaluation.datasets
    yield from guarded("data", _generated, params, stops=())
    if params.clips.photographs:
        yield from guarded("clips.photographs", _photographs, params.clips.photographs, stops=("clips",))
    for name in ("davis", "sav", "ytvos"):
        stops = SCORED if LAYOUTS[name] == "davis2017" else ("data", "evaluation")
        splits = {data.split_of(name): stops} if name in wanted and getattr(data, f"{name}_root") else {}
        splits |= {"train": TRAINED} if name == "davis" and not data.generated else {}
        yield from _real(params, name, splits) if splits else ()
    if not data.generated:
        yield from _drawn_videos(params)


def frames_of(params) -> dict[str, tuple[int, int]]:
    """Sequences and frames of the sets to score, by name, and of those to train on and to calibrate on.

    Real ones are counted where they lie; one that is not there has none.
    """
    clips, data, found = params.clips, params.data, {}
    if data.generated:
        long = 50  # frames of a clip whose conditions change, 40 to 60
        found["train"] = _count(clips.train, clips.frames, clips.changing_train, long)
        found["calibration"] = _count(clips.calibration, clips.frames, clips.changing_calibration, long)
        sets = {"davis": (clips.val, clips.wide), "sav": (clips.sav, 0), "ytvos": (clips.ytvos, clips.wide_ytvos)}
        own = {name: _count(sum(numbers), clips.frames) for name, numbers in sets.items()}
        own["changing"] = _count(0, 0, clips.changing, long)
        found |= {f"generated-{name}": own[name] for name in params.evaluation.datasets}
    for name in params.evaluation.datasets:
        found |= _counted(params, name, data.split_of(name), name)
    if not data.generated:
        sequences, frames = _counted(params, "davis", "train", "all").get("all", (0, 0))
        held_out = -(-sequences // 10)
        found["train"] = sequences - held_out, frames * (sequences - held_out) // max(sequences, 1)
        found["calibration"] = held_out, frames // 10
    return found


def _count(clips: int, frames: int, more: int = 0, long: int = 0) -> tuple[int, int]:
    return clips + more, clips * frames + more * long


def _counted(params, name: str, split: str, key: str) -> dict[str, tuple[int, int]]:
    root = getattr(params.data, f"{name}_root", "")
    try:
        where = locate(paths.resolve(root), LAYOUTS[name], split)
        counts = [_pictures(where.frames / sequence) for sequence in read_index(where)] if root else []
    except (RDSInputError, OSError):
        counts = []
    return {key: (len(counts), sum(counts))} if counts else {}


def _generated(params) -> Finding:
    """``data/``, which DVC copies from what stage clips generates; a smoke run has clips of its own."""
    if not paths.DATA.is_dir():
        made = "each stage makes its own" if params.is_smoke else "stage clips makes them"
        return Finding("data", OK, f"no generated clips in data/ yet: {made}")
    sets = {f"val/{FOLDERS.get(name, name)}": (name, "val") for name in ("davis", "sav", "ytvos", "changing")}
    sets |= {name: ("davis", name) for name in ("train", "calibration")}
    sequences, faults = 0, []
    for folder, (name, split) in sets.items():
        if (paths.DATA / folder).is_dir():
            try:
                names, missing = _present(paths.DATA / folder, LAYOUTS[name], split)
            except (RDSInputError, OSError):
                names, missing = [], ["its list"]
            sequences += len(names)
            faults += [f"{folder}: {sequence}" for sequence in missing]
    if faults:
        return Finding("data", WARNING, f"data/ is not whole, it lacks {listed(faults)}", "dvc repro data.dvc")
    return Finding("data", OK, f"data/ has {sequences} generated clips")


def _photographs(text: str) -> Finding:
    folder = paths.resolve(text)
    number = sum(1 for _ in folder.rglob("*.jpg")) if folder.is_dir() else 0
    if number:
        return Finding("clips.photographs", OK, f"{paths.shown(folder)}: {number} photographs")
    fix = 'put BSDS500 there, name its folder in the profile, or set photographs: ""'
    return Finding("clips.photographs", ERROR, f"{paths.shown(folder)}: no photographs", fix, ("clips",))


def _real(params, name: str, splits: Mapping[str, tuple[str, ...]]) -> Iterator[Finding]:
    """A line for each split of a set, with the stages that read it; one for all where there is no folder."""
    key, every = f"data.{name}_root", tuple(dict.fromkeys(stage for stops in splits.values() for stage in stops))
    root, edit = (
        paths.resolve(getattr(params.data, key.partition(".")[2])),
        f"edit params/{params.profile}.yaml ({key})",
    )
    if not root.is_dir():
        get = "`python -m rds_lib data fetch NAME --out DIR` gets it or says where it is"
        yield Finding(key, ERROR, f"{paths.shown(root)} is no folder", f"{get}; or {edit}", every)
        return
    for split, stops in splits.items():
        yield from guarded(f"{key} ({split})", _split, root, name, split, f"{key} ({split})", stops, stops=stops)


def _split(root: Path, name: str, split: str, key: str, stops: tuple[str, ...]) -> Finding:
    names, missing = _present(root, LAYOUTS[name], split)
    where = locate(root, LAYOUTS[name], split)
    if missing:
        found = f"{paths.shown(where.index)} names {len(names)} sequences, without frames or masks: {listed(missing)}"
        return Finding(key, ERROR, found, "unpack them again, or take them out of the list", stops)
    frames = sum(_pictures(where.frames / sequence) for sequence in names)
    return Finding(key, OK, f"{paths.shown(root)}: {len(names)} sequences, {frames} frames")


def _present(root: Path, layout: str, split: str) -> tuple[list[str], list[str]]:
    """The sequences of a list, and those of them that lack frames or masks."""
    check_split(root, layout, split)
    where = locate(root, layout, split)
    names = list(read_index(where))
    return names, [n for n in names if not _pictures(where.frames / n) or not (where.masks / n).is_dir()]


def _pictures(folder: Path) -> int:
    if not folder.is_dir():
        return 0
    with os.scandir(folder) as entries:
        return sum(entry.name.lower().endswith(PICTURES) for entry in entries)


def _drawn_videos(params) -> Iterator[Finding]:
    """The videos that figures and the inspector show are among those that are scored."""
    try:
        split = params.data.split_of("davis")
        known = read_index(locate(paths.resolve(params.data.davis_root), LAYOUTS["davis"], split))
    except (RDSInputError, OSError):
        return  # named above
    asked = {*params.figures.videos, *params.figures.compared, *params.inspect.videos}
    absent = sorted(asked - known.keys())
    if absent:
        fix = f"edit figures and inspect in params/{params.profile}.yaml"
        yield Finding("figures.videos", ERROR, f"not in DAVIS's list {split}: {listed(absent)}", fix, ("figures",))
