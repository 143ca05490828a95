"""The stages of ``dvc.yaml``: which one reads what, and which ones follow from it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rds_lib.core import paths
from rds_lib.core.artifacts import read_text
from rds_lib.core.errors import RDSInputError
from rds_lib.pipeline.doctor.finding import ERROR, EVERY, Finding

IMPORTED = {"data": "build/clips"}  # data.dvc: a copy of a stage's product


@dataclass(frozen=True)
class Chain:
    """Stages in the order of ``dvc.yaml``, with the files and folders that each reads and makes."""

    deps: Mapping[str, tuple[str, ...]]
    outs: Mapping[str, tuple[str, ...]]
    frozen: frozenset[str] = frozenset()

    def readers(self, path: str) -> tuple[str, ...]:
        """The stages that read a file, by itself or in a folder."""
        return tuple(name for name, deps in self.deps.items() if any(_holds(dep, path) for dep in deps))

    def after(self, names: Iterable[str]) -> set[str]:
        """Some stages and all that follow from what they make; a frozen one makes nothing new."""
        found, todo = set(), list(names)
        while todo:
            name = todo.pop()
            if name in self.deps and name not in found:
                found.add(name)
                todo += self._next(name) if name not in self.frozen else []
        return found

    def stopped(self, findings: Iterable[Finding]) -> dict[str, list[str]]:
        """The names of the errors that keep each stage from ending, its own before those of stages before it."""
        errors = [finding for finding in findings if finding.state == ERROR]
        found = {name: [] for name in self.deps if name not in self.frozen}
        for name, own in found.items():
            direct = [item.name for item in errors if item.stops == EVERY or name in item.stops]
            before = [item.name for item in errors if item.stops != EVERY and name in self.after(item.stops)]
            own += dict.fromkeys(direct + before)
        return found

    def _next(self, name: str) -> list[str]:
        outs = [*self.outs[name], *(copy for copy, source in IMPORTED.items() if source in self.outs[name])]
        return [other for other, deps in self.deps.items() if any(_holds(out, dep) for dep in deps for out in outs)]


def read_chain(profile: str) -> Chain:
    """Read ``dvc.yaml`` as it is for one profile.

    Raises
    ------
    RDSInputError
        If it is missing, no YAML, or has no stages.
    """
    path = paths.ROOT / "dvc.yaml"
    try:
        stages = YAML(typ="safe", pure=True).load(read_text(path).replace("${profile}", profile))["stages"]
        deps = {name: tuple(stage.get("deps", ())) for name, stage in stages.items()}
        outs = {name: tuple(map(_name, stage.get("outs", ()))) for name, stage in stages.items()}
        return Chain(deps, outs, frozenset(name for name, stage in stages.items() if stage.get("frozen")))
    except (YAMLError, AttributeError, KeyError, TypeError) as error:
        why = str(error).partition("\n")[0]
        raise RDSInputError(
            f"{paths.shown(path)}: has no stages that can be read ({why}); git checkout dvc.yaml"
        ) from error


def _name(out) -> str:
    """An output's path, with or without options."""
    return out if isinstance(out, str) else next(iter(out))


def _holds(folder: str, path: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
