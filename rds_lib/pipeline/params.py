"""Typed, frozen parameters of a profile. No other module reads a parameter file.

``params.yaml`` names the default profile; ``params/<profile>.yaml`` holds one section per stage.
The files are read with DVC's own parser, so that both see the same numbers.
"""

import re
from pathlib import Path

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML

from rds_lib.core import paths
from rds_lib.core.artifacts import read_text
from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline.profile_rules import faults
from rds_lib.pipeline.profile_words import explain
from rds_lib.pipeline.sections import (
    Baselines,
    Benchmark,
    Clips,
    Data,
    Dinov3,
    Evaluation,
    Figures,
    Headroom,
    Importance,
    Inspect,
    Model,
    Pretrain,
    Router,
    Section,
    Train,
    YourVideo,
)

MOST_FAULTS = 10  # of a profile in one message


class Params(BaseModel):
    """All sections of one profile, and the profile's name."""

    model_config = Section.model_config

    profile: str
    model: Model
    clips: Clips
    data: Data
    importance: Importance
    headroom: Headroom
    train: Train
    router: Router
    baselines: Baselines
    evaluation: Evaluation
    dinov3: Dinov3
    benchmark: Benchmark
    pretrain: Pretrain
    your_video: YourVideo
    figures: Figures
    inspect: Inspect

    @property
    def is_smoke(self) -> bool:
        """Whether this is the profile of tests and stored outputs, in which a stage builds missing inputs itself."""
        return self.profile == "smoke"

    def with_section(self, name: str, **values) -> "Params":
        """Return a copy with other values in one section, checked as a file is; for a notebook's parameters cell."""
        try:
            section = type(getattr(self, name)).model_validate({**getattr(self, name).model_dump(), **values})
        except ValidationError as error:
            lines = [explain(item, Params, (name,)) for item in error.errors()]
            raise RDSInputError("\n".join(lines)) from None
        return self.model_copy(update={name: section})


def load_params(profile: str | None = None, path: str | Path | None = None) -> Params:
    """Load and check the parameters of one profile.

    Parameters
    ----------
    profile : str, optional
        ``smoke``, ``mini``, ``paper`` or any other file in ``params/``. The default is the one in ``params.yaml``.
    path : str or Path, optional
        A parameter file elsewhere; the profile is then named after it, unless ``profile`` is given.

    Returns
    -------
    Params
        Frozen; lists become tuples.

    Raises
    ------
    RDSInputError
        If the file is missing or unreadable, a key is unknown, missing or out of range, or sections do not go together.
        The message names the file, the key, its value and what is allowed.
    """
    if path is None:
        profile = profile or _default_profile()
        path = paths.PARAMS / f"{profile}.yaml"
        if not re.fullmatch(r"[\w.-]{1,200}", profile) or not path.is_file():
            known = ", ".join(sorted(file.stem for file in paths.PARAMS.glob("*.yaml")))
            raise RDSInputError(f"unknown profile {profile!r}; {paths.shown(paths.PARAMS)} has: {known}")
    path = Path(path)
    sections = _read(path)
    if "profile" in sections:
        raise RDSInputError(f"{paths.shown(path)}: profile is unknown; a profile is named after its file")
    try:
        params, wrong = Params.model_validate({"profile": profile or path.stem, **sections}), []
    except ValidationError as error:
        wrong = [explain(item, Params) for item in error.errors()]
    wrong = wrong or list(faults(params))
    if wrong:
        more = [f"and {len(wrong) - MOST_FAULTS} more"] if len(wrong) > MOST_FAULTS else []
        raise RDSInputError("\n".join(f"{paths.shown(path)}: {line}" for line in wrong[:MOST_FAULTS] + more))
    return params


def _default_profile() -> str:
    path = paths.shipped(paths.ROOT / "params.yaml")
    content = _read(path)
    if list(content) != ["profile"] or not isinstance(content["profile"], str):
        raise RDSInputError(f"{path.name}: one line is allowed, `profile: <name>`; got the keys {list(content)}")
    return content["profile"]


def _read(path: Path) -> dict:
    try:
        content = YAML(typ="safe", pure=True).load(read_text(path))
    except RDSInputError:
        raise
    except Exception as error:  # the parser raises anything on what it does not expect
        why = "nested too deep, a profile has two levels" if isinstance(error, RecursionError) else error
        raise RDSInputError(f"{paths.shown(path)}: cannot be read as YAML: {why}") from error
    if not isinstance(content, dict):
        raise RDSInputError(f"{paths.shown(path)}: a mapping of keys to values is expected")
    return content
