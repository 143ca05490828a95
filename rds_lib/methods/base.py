"""What a baseline of Table 9 is, and the register that training, evaluation, benchmark, tables and figures read.

A new baseline is one module that subclasses `Method` and calls `register`.
"""

from pathlib import Path

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
        """The modules with a gate, in order."""
        return []

    def load(self, model, path: Path):
        """Turn a model into the trained baseline of a file, in place, and return it in evaluation mode."""
        raise AttributeError(f"method {self.label} says nothing of load")


def register(method: Method) -> Method:
    """Make a method take part; a second one of the same name takes the first one's place."""
    METHODS[method.name] = method
    return method
