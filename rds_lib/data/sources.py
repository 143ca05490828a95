"""The clips that a profile trains, calibrates and validates on: generated, real, or both."""

from dataclasses import dataclass
from pathlib import Path

from rds_lib.core import paths
from rds_lib.core.errors import RDSInputError
from rds_lib.data.datasets import Sequence, read_dataset
from rds_lib.work.locks import require

HELD_OUT_EVERY = 10  # every tenth sequence of a real training list is kept for calibration
LAYOUTS = {"davis": "davis2017", "sav": "sav", "ytvos": "ytvos", "changing": "davis2017"}
FOLDERS = {"davis": "davis2017"}  # of a generated set below val, where it has not the set's name


@dataclass(frozen=True)
class Source:
    """A data set to validate on: its name in tables, its root folder and its layout."""

    name: str
    root: Path
    layout: str
    split: str = "val"

    def sequences(self) -> list[Sequence]:
        return read_dataset(self.root, layout=self.layout, split=self.split)


def data_root(params, workdir: Path) -> Path:
    """The folder of the generated sets: the pipeline's ``data/``; a smoke run generates its own in ``workdir``."""
    if params.is_smoke:
        from rds_lib.data.generate import generate_datasets

        return require("clips", workdir, build=lambda path: generate_datasets(params, path), stage="clips")
    return require(paths.DATA.name, paths.ROOT, stage="data.dvc")


def training_sequences(params, workdir: Path) -> tuple[list[Sequence], list[Sequence]]:
    """Return the sequences to train on and those to calibrate thresholds on; they share no video.

    With ``data.generated`` both are generated. Otherwise they come from the train list of ``data.davis_root``, of
    which every tenth sequence calibrates.
    """
    if params.data.generated:
        root = data_root(params, workdir)
        return [read_dataset(root / name, layout="davis2017", split=name) for name in ("train", "calibration")]
    return split_held_out(read_dataset(_real_root(params, "davis"), layout="davis2017", split="train"))


def split_held_out(sequences: list[Sequence]) -> tuple[list[Sequence], list[Sequence]]:
    """Return a real training list without every tenth sequence, and these: to calibrate and to choose models on."""
    return [s for i, s in enumerate(sequences) if i % HELD_OUT_EVERY], sequences[::HELD_OUT_EVERY]


def validation_sources(params, workdir: Path) -> list[Source]:
    """Return the data sets of ``evaluation.datasets``: generated, real where ``data`` names a root, or both."""
    sources = []
    if params.data.generated:
        root = data_root(params, workdir) / "val"
        for name in params.evaluation.datasets:
            sources.append(Source(f"generated-{name}", root / FOLDERS.get(name, name), LAYOUTS[name]))
    for name in params.evaluation.datasets:
        if getattr(params.data, f"{name}_root", ""):
            split = params.data.split_of(name)
            shown = name if split == "val" else f"{name}-{split}"  # no part of a set under the name of the whole
            sources.append(Source(shown, _real_root(params, name), LAYOUTS[name], split))
    if not sources:
        raise RDSInputError(
            f"profile {params.profile}: nothing to validate on; set data.generated or one of data.*_root"
        )
    return sources


def _real_root(params, name: str) -> Path:
    text = getattr(params.data, f"{name}_root")
    root = paths.resolve(text)
    if not text or not root.is_dir():
        raise RDSInputError(
            f"params/{params.profile}.yaml: data.{name}_root = {text!r} is not a folder; download the data set from "
            "its home page and name its folder here"
        )
    return root
