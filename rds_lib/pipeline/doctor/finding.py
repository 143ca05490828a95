"""What a check found: one line with a state, and the stages that it stops."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rds_lib.core.errors import RDSInputError

OK, WARNING, ERROR = "ok", "warning", "error"
EVERY = ("every stage",)  # that an error stops


@dataclass(frozen=True)
class Finding:
    """One line of the report. An error stops ``stops``, names of stages of ``dvc.yaml``, and all that follow them."""

    name: str
    state: str
    found: str
    fix: str = ""  # the command or the edit that mends it
    stops: tuple[str, ...] = ()


def refusal(name: str, error: Exception, *, stops: Iterable[str] = EVERY, fix: str = "") -> Finding:
    """The line for an `RDSInputError`, an `OSError` or an `ImportError`; what follows its last semicolon is the fix.

    It is an error if it stops a stage, else a warning.
    """
    text = f"{error.filename}: {error.strerror}" if getattr(error, "strerror", None) and error.filename else str(error)
    text = "; ".join(line.strip() for line in text.splitlines() if line.strip())
    found, _, own = ("", "", "") if fix else text.rpartition("; ")
    state = ERROR if (stops := tuple(stops)) else WARNING
    return Finding(name, state, found or text, fix or (own if found else ""), stops)


def guarded(name: str, check: Callable, *arguments, stops: Iterable[str] = EVERY) -> list[Finding]:
    """What a check finds, one finding or several; bad input that it raises is an error of its own.

    So is a package that is there and cannot be loaded.
    """
    try:
        found = check(*arguments)
    except (RDSInputError, OSError, ImportError) as error:
        return [refusal(name, error, stops=stops)]
    return [found] if isinstance(found, Finding) else list(found)


def listed(names: Iterable[str], limit: int = 4) -> str:
    """Names for a line, the first few of many."""
    names = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def size(number: float) -> str:
    """Bytes as people read them."""
    for unit in ("B", "kB", "MB"):
        if abs(number) < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
