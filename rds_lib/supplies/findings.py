"""What is odd about a data set: one line for each kind of oddness in a sequence."""

import re
from pathlib import Path
from typing import NamedTuple

ERROR, WARNING = "error", "warning"
WHOLE_SET = "-"  # in place of a sequence's name


class Finding(NamedTuple):
    """One line of a check."""

    severity: str  # ERROR: it cannot be read as it should; WARNING: it can, but look at it
    sequence: str
    file: str  # the first one, below the root
    what: str
    fix: str
    count: int  # files of which it holds

    def __str__(self) -> str:
        more = f" (and {self.count - 1} more such files)" if self.count > 1 else ""
        return f"{self.severity}: {self.sequence}: {self.file}: {self.what}{more}; {self.fix}"


class Findings:
    """Gathers findings in the order in which they come; the same kind in the same sequence becomes one."""

    def __init__(self, root: Path):
        self._root, self._found = root, {}

    def add(self, severity: str, sequence: str, path: Path, what: str, fix: str, *, kind: str | None = None) -> None:
        """Note one; all of the same severity, sequence and ``kind`` (by default: of the same words) are one line."""
        key = (severity, sequence, kind or what)
        shown = path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else str(path)
        first, files = self._found.setdefault(key, (Finding(severity, sequence, shown, what, fix, 1), set()))
        files.add(path)
        self._found[key] = first._replace(count=len(files)), files

    def quote(self, severity: str, sequence: str, path: Path, message: object, *, kind: str | None = None) -> None:
        """Note what a reader says: ``<file>: <what>; <fix>``."""
        text = str(message).removeprefix(f"{path}: ").replace(f"{self._root}/", "")
        what, _, fix = text.partition("; ")
        self.add(
            severity,
            sequence,
            path,
            what,
            fix or "put the right file in its place",
            kind=kind or re.sub("[0-9]+", "", what),
        )

    def count(self, severity: str) -> int:
        """How many findings have a severity."""
        return sum(finding.severity == severity for finding in self.all())

    def all(self) -> list[Finding]:
        """Errors first, otherwise as they came."""
        return sorted((finding for finding, _ in self._found.values()), key=lambda finding: finding.severity != ERROR)
