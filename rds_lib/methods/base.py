"""What a baseline of Table 9 is, and the register that training, evaluation, benchmark, tables and figures read.

A new baseline is one module that subclasses `Method` and calls `register`.
"""

from pathlib import Path

from rds_lib.core.errors import RDSInputError

METHODS: dict[str, "Method"] = {}


class Method:
    """A way to make SAM2's encoder cheaper, at several levels. Subclass it, set the attributes, override what differs."""

    name: str  # key in files: baselines/<name>/<level:g>.safetensors
    label: str  # in tables and figures
    kind: str = "smaller"  # what decides while tracking: "smaller" (nothing), "blocks" or "tokens"

    def levels(self, section) -> tuple[float, ...]:
        """The rows of a profile, as its files are named; ``section`` is ``params.baselines``."""
        return section.levels

    def table_level(self, level: float) -> float:
        """The level that tables show."""
        return level

    def gates(self, model) -> list:
        """The modules with a gate, in order; [] without."""
        return []

    def load(self, model, path: Path):
        """Turn a model into the trained baseline of a file, in place, and return it in evaluation mode."""
        from rds_lib.methods.files import load_baseline

        load_baseline(path, model)
        return model.eval()


def register(method: Method) -> Method:
    """Make a method take part; a second one of the same name takes the first one's place."""
    METHODS[method.name] = method
    return method


def method_of(name: str) -> Method:
    """The registered method of that name.

    Raises
    ------
    RDSInputError
        If there is none.
    """
    if name not in METHODS:
        raise RDSInputError(f"method {name!r} is unknown; choose one of {', '.join(METHODS)}")
    return METHODS[name]
