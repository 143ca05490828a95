"""See before an hour is spent whether a data set is whole: list, frames, masks, one sequence after the other."""

import warnings
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from rds_lib.core.errors import RDSInputError
from rds_lib.data.datasets import read_dataset
from rds_lib.data.layouts import LAYOUTS
from rds_lib.supplies.findings import ERROR, WARNING, WHOLE_SET, Finding, Findings
from rds_lib.supplies.sequences import check_sequence
from rds_lib.supplies.splits import find_split


class Report(NamedTuple):
    """What a check found, errors first, and how much it looked at."""

    findings: list[Finding]
    sequences: int
    frames: int
    masks: int

    def count(self, severity: str) -> int:
        """How many findings have a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def summary(self) -> str:
        """One line."""
        seen = f"{self.sequences} sequences, {self.frames} frames, {self.masks} masks"
        counts = ((self.count(state), state) for state in (ERROR, WARNING))
        return f"{seen}: " + ", ".join(f"{n} {state}{'' if n == 1 else 's'}" for n, state in counts)


def check_dataset(root: str | Path, *, layout: str, split: str = "val", deep: bool = False) -> Report:
    """Look through a split of a data set; it is not changed.

    Parameters
    ----------
    root : path
        As for `read_dataset`; for MOSE and LVOS the folder that holds ``valid``, or that folder itself.
    layout : {"davis2017", "sav", "ytvos", "mose", "lvos"}
    deep : bool
        Decode every picture; otherwise headers and ends of files are looked at, and the masks that objects begin in.

    Notes
    -----
    Without an error `read_dataset` reads the set, which is tried; MOSE and LVOS are only looked through.

    Raises
    ------
    RDSInputError
        If there is no such root, layout or split.
    """
    root = Path(root)
    findings = Findings(root)
    found = find_split(root, layout, split, findings)
    names = () if found is None else found.names
    counts = [(0, 0)]
    for name in tqdm(names, desc="checking", leave=False, disable=None):
        counts.append(check_sequence(found, name, findings, deep=deep))
    if found is not None and not names:
        findings.add(ERROR, WHOLE_SET, found.frames, "no sequence with frames and masks", "unpack the set again")
    if layout in LAYOUTS and not findings.count(ERROR):
        _try_reading(root, layout, split, findings)
    frames, masks = map(sum, zip(*counts))
    return Report(findings.all(), len(names), frames, masks)


def _try_reading(root, layout, split, findings):
    """What the reader refuses is an error, whatever it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read_dataset(root, layout=layout, split=split)
        except RDSInputError as error:
            findings.quote(ERROR, WHOLE_SET, root, error)
