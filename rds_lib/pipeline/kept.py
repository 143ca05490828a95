"""What stages keep in ``.cache`` under a key of all that it follows from: whole products, and the arms of evaluations.

So a stage that was stopped goes on, and what ``python -m rds_lib stage`` made under torchrun is there when DVC comes
to the stage. ``dvc.yaml`` says what a stage depends on, and the key hashes just that. Whether a CPU or a GPU did the
work is not in it, as for trainings.
"""

import shutil
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from ruamel.yaml import YAML

from rds_lib.core import paths
from rds_lib.core.artifacts import write_json
from rds_lib.core.errors import RDSInputError
from rds_lib.core.paths import CACHE
from rds_lib.pipeline.fingerprint import file_digest, listing_digest, training_key
from rds_lib.pipeline.stages import STAGES, require
from rds_lib.work import ranks
from rds_lib.work.finished import LIST, once
from rds_lib.work.locks import remove

AHEAD = ("importance", "headroom", "train", "baselines", "evaluation", "dinov3")  # which command `stage` takes
DONE = "stage.json"  # in the folder of a whole product
PRODUCT = "product"


def take_or_make(name: str, make: Callable, params, workdir: Path, out: Path, *, after: Iterable[str] = ()) -> None:
    """Have the products of a stage in the folder ``out``: made once in ``.cache/stages``, and copied from there.

    Parameters
    ----------
    make : callable ``(params, workdir, out)``
    after : iterable of str
        The stages whose products it reads.
    """
    home = CACHE / "stages" / f"{params.profile}-{name}-{stage_key(name, params, workdir, after=after)}"

    def write():
        if ranks.is_first():
            remove(home / PRODUCT)  # of a run that was stopped
        with ranks.written_by_first(home / PRODUCT) as place:
            make(params, workdir, place)
        if ranks.is_first():
            write_json(home / DONE, {"stage": name, "profile": params.profile})

    if ranks.is_first():
        out.mkdir(parents=True, exist_ok=True)  # empty until all is there
    once(home, DONE, write, parts="*")
    if ranks.is_first():
        shutil.copytree(home / PRODUCT, out, dirs_exist_ok=True)


def arms_folder(name: str, params, workdir: Path, *, after: Iterable[str] = (), files: Iterable[Path] = ()) -> Path:
    """The folder in which an evaluation keeps what it has scored; see `stage_key`."""
    return (
        CACHE / "evaluation" / f"{params.profile}-{name}-{stage_key(name, params, workdir, after=after, files=files)}"
    )


def make_ahead(name: str, params, workdir: Path) -> None:
    """Make what a stage then finds in ``.cache``, alone or with all ranks of torchrun."""
    if name not in AHEAD:
        raise RDSInputError(f"stage {name!r} cannot be made ahead; choose one of {', '.join(AHEAD)}")
    with ranks.shared(), TemporaryDirectory() as place:
        STAGES[name].build(params, workdir, Path(place) / name)


def stage_key(name: str, params, workdir: Path, *, after: Iterable[str] = (), files: Iterable[Path] = ()) -> str:
    """Short hash of all that a stage's products follow from.

    Those are the code and the files of the repository that ``dvc.yaml`` lists for it, the sections of parameters that
    it lists, the model's weights and every other checkpoint that these name, the data, the products of the stages
    ``after`` which it comes, and ``files``.
    """
    stage = YAML(typ="safe").load((paths.ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"][name]
    listed = [dep for dep in stage["deps"] if dep != "data" and not dep.startswith(("runs/", "build/", "rds_lib/"))]
    code = [dep.removeprefix("rds_lib/") for dep in stage["deps"] if dep.startswith("rds_lib/")]
    sections = {section for item in stage["params"] for named in item.values() for section in named}
    data, parts = params.data, [(section, getattr(params, section)) for section in sorted(sections)]
    parts += [file_digest(file) for file in (*(paths.ROOT / dep for dep in listed), *files)]
    parts += [_digest(paths.resolve(text)) for text in _checkpoints(params) if text]
    if data.generated:
        parts += [params.clips] if params.is_smoke else [params.clips, file_digest(paths.ROOT / "data.dvc")]
    parts += [_products_digest(require(earlier, params, workdir)) for earlier in after]
    parts += [_digest(paths.resolve(root)) for root in (data.davis_root, data.sav_root, data.ytvos_root) if root]
    return training_key(params, code, version("torch"), *parts)


def _checkpoints(params) -> list[str]:
    """Of the smaller models and the second backbone; `training_key` looks after the model's own."""
    return [*(checkpoint for _, checkpoint in params.evaluation.smaller), params.dinov3.checkpoint]


def _digest(path: Path) -> bytes:
    """Of a file its content, of a folder its listing; of what is no path here, such as the name of a model, nothing."""
    if path.is_file():
        return file_digest(path)
    return listing_digest(path) if path.is_dir() else b""


def _products_digest(folder: Path) -> list[tuple[str, bytes]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != LIST)
    return [(file.relative_to(folder).as_posix(), file_digest(file)) for file in files]
