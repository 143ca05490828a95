"""What `doctor` prints: one table of checks and stages, or the same as JSON, and whether all stages could end."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from rds_lib.pipeline.doctor.chain import Chain
from rds_lib.pipeline.doctor.finding import ERROR, OK, WARNING, Finding, listed

HEADS = ("check", "state", "what was found -> what to do")


@dataclass(frozen=True)
class Report:
    """All findings of one call: those of the checks, and a line for each stage, with seconds where they are known."""

    profile: str
    checks: list[Finding]
    stages: list[Finding] = field(default_factory=list)
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit code: 0 where every stage could end, else 2."""
        return 2 if any(line.state == ERROR for line in (*self.checks, *self.stages)) else 0

    def as_text(self) -> str:
        """The table, a line for each finding, then what it comes to."""
        rows = [HEADS, *((line.name, line.state, _told(line)) for line in (*self.checks, *self.stages))]
        wide = [max(len(row[n]) for row in rows) for n in range(2)]
        lines = [f"{row[0]:<{wide[0]}}  {row[1]:<{wide[1]}}  {row[2]}" for row in rows]
        return "\n".join([*lines, "", *self.notes, self._summary()])

    def as_json(self) -> dict:
        """The same for programs."""
        checks = [asdict(line) | {"stops": list(line.stops)} for line in self.checks]
        stages = [
            {key: value for key, value in asdict(line).items() if key != "stops"}
            | {"seconds": self.seconds.get(line.name)}
            for line in self.stages
        ]
        return {
            "profile": self.profile,
            "finishes": self.code == 0,
            "checks": checks,
            "stages": stages,
            "notes": self.notes,
        }

    def _summary(self) -> str:
        states = [line.state for line in self.checks]
        numbers = ((states.count(state), state) for state in (ERROR, WARNING))
        counts = ", ".join(f"{number} {state}{'s' * (number != 1)}" for number, state in numbers)
        stopped = [line.name.removeprefix("stage ") for line in self.stages if line.state == ERROR]
        if self.code == 0:
            return f"Profile {self.profile}: every stage could end here ({counts})."
        what = (
            "no stage could end" if len(stopped) in (0, len(self.stages)) else f"could not end: {listed(stopped, 20)}"
        )
        return f"Profile {self.profile}: {what} ({counts})."


def stage_lines(chain: Chain, checks: list[Finding], todo: set[str] | None, seconds, unknown) -> list[Finding]:
    """A line for each stage: what stops it, or about how long it takes.

    Parameters
    ----------
    todo : set of str or None
        The stages that would run; None where that is not known.
    seconds : mapping
        By stage.
    unknown : mapping
        Why seconds are not known, in words by stage; ``""`` is any other one.
    """
    lines = []
    for name, errors in chain.stopped(checks).items():
        about = f"about {duration(seconds[name])}" if name in seconds else unknown.get(name, unknown[""])
        if errors:
            lines.append(Finding(f"stage {name}", ERROR, f"could not end; {about}", f"mend {listed(errors, 8)}"))
        elif todo is not None and name not in todo:
            lines.append(Finding(f"stage {name}", OK, "up to date: would not run"))
        else:
            lines.append(Finding(f"stage {name}", OK, f"could end; {about}"))
    return lines


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 360000 else f"{seconds / 86400:.0f} days"


def _told(line: Finding) -> str:
    return f"{line.found} -> {line.fix}" if line.fix else line.found
