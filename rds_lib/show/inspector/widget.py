"""RoutingInspector: which blocks ran on which frame and what it cost, to step through in a notebook or in a page."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rds_lib.core.errors import RDSInputError
from rds_lib.data.datasets import Sequence as VideoSequence
from rds_lib.evaluation.recordings import Recording, Run, run_of
from rds_lib.model.track import track_sequence
from rds_lib.routing.algorithm1 import check_budget, check_tau, target_active
from rds_lib.routing.weights import RDSWeights
from rds_lib.show.inspector.data import live_side, runs_data, video_data
from rds_lib.show.inspector.front import InspectorWidget
from rds_lib.show.inspector.page import write_inspector_page
from rds_lib.show.inspector.picture import routing_picture
from rds_lib.show.picture import Picture

BUDGETS = [round(0.05 * n, 2) for n in range(1, 21)]  # of the slider, from the lowest that the router serves


class RoutingInspector(InspectorWidget):
    """Recordings to step through, frame by frame: masks, blocks, quality and work of one or two runs.

    In JupyterLab it is live: with a predictor, sliders track the video again under another budget or threshold. A
    viewer without a kernel shows the picture; :meth:`to_html` writes a page that does all but track again.

    Parameters
    ----------
    recordings : Recording or sequence of Recording
        Videos to choose from, under different names; the first one opens.
    runs : sequence of str
        One or two names of runs to open with, A and B; by default the first two.
    predictor : RDSVideoPredictor, optional
        With a policy; its policy is put back after every run.
    weights : RDSWeights, optional
        What the predictor was built with, for the calibrated thresholds; needed with a predictor.
    sequences : sequence of datasets.Sequence
        What to track again, matched to recordings by name. A video without one cannot be tracked again.

    Attributes
    ----------
    sequence : str
        Name of the video that is shown.
    shown : list of str
        Names of runs A and B; "" for no B.
    frame : int
        Frame that is shown, counted from 0.
    """

    def __init__(
        self,
        recordings,
        runs: Sequence[str] = (),
        *,
        predictor=None,
        weights: RDSWeights | None = None,
        sequences: Sequence[VideoSequence] = (),
    ):
        recordings = [recordings] if isinstance(recordings, Recording) else list(recordings)
        _check(recordings, runs, predictor, weights)
        self._recordings = {recording.name: recording for recording in recordings}
        self._predictor, self._weights = predictor, weights
        self._sequences = {sequence.name: sequence for sequence in sequences}
        first = recordings[0]
        names = list(runs) or [run.name for run in first.runs[:2]]
        self._opened_with = [*names, ""][:2]
        super().__init__(menu=list(self._recordings), sequence=first.name, shown=self._opened_with, **self._data(first))
        self.observe(self._open, "sequence")
        self.on_msg(self._asked)

    @property
    def recording(self) -> Recording:
        """The video that is shown, with the runs that were made live."""
        return self._recordings[self.sequence]

    def reroute(self, budget: float, tau: float | None = None) -> Run:
        """Track the video that is shown again under another policy, and show the new run as B.

        Parameters
        ----------
        budget : float
            Target share of active blocks, from the lowest that the router serves to 1.
        tau : float, optional
            Threshold on keep probabilities; by default the calibrated one of the budget. A budget without one runs the
            blocks that it asks for, exactly.

        Raises
        ------
        RDSInputError
            If there is no predictor, or no sequence of this video, or a value is out of range.
        """
        if not self._can_track(self.sequence):
            raise RDSInputError(
                f"{self.sequence} cannot be tracked again; give RoutingInspector a predictor, its "
                "weights and the video's Sequence"
            )
        check_budget(budget)
        mode, tau = self._weights.rule_for(budget) if tau is None else ("threshold", tau)
        check_tau(tau)
        recording, sequence, policy = self.recording, self._sequences[self.sequence], self._predictor.policy
        wanted, counted = self._blocks_at(budget), mode == "top_n"
        self._predictor.set_policy(replace(policy, budget=budget, tau=tau, mode=mode, n_active=wanted))
        try:
            tracked = track_sequence(self._predictor, sequence)
        finally:
            self._predictor.set_policy(policy)
        name = f"live {budget:g}, {wanted} blocks" if counted else f"live {budget:g}, tau {tau:.2f}"
        run = run_of(name, tracked, sequence, depth=recording.depth)
        self._recordings[recording.name] = recording.with_run(run)
        with self.hold_sync():
            self.runs = runs_data(self.recording, live_side(recording))
            self.shown = [self.shown[0], run.name]
            self.routing = self.routing | {"budget": budget, "tau": None if counted else tau}
        return run

    def picture(self) -> Picture:
        """The current view as a figure."""
        frame = min(max(self.frame, 0), len(self.recording) - 1)
        return routing_picture(self.recording, self._names(self.recording), frame, repr(self))

    def to_html(self, path: str | Path) -> Path:
        """Write all recordings as one page of at most 4.9 MB that needs no kernel and no network; returns the path.

        Raises
        ------
        RDSInputError
            If the recordings do not fit into that size.
        """
        opened = [self.recording, *(one for name, one in self._recordings.items() if name != self.sequence)]
        summary = f"{_videos(len(opened))}: masks, the encoder's blocks that ran, quality and work, frame by frame."
        write_inspector_page(path, opened, self._names(self.recording), title="Routing inspector", summary=summary)
        return Path(path)

    def __repr__(self):
        recording = self.recording
        runs = " | ".join(map(_one_line, self._names(recording)))
        return (
            f"RoutingInspector({_videos(len(self._recordings))}, {_one_line(recording.name)}: "
            f"{recording.depth} blocks x {len(recording)} frames, {runs})"
        )

    def _data(self, recording):
        side = live_side(recording)
        routing = {}
        if self._can_track(recording.name):
            policy = self._predictor.policy
            budgets = [budget for budget in BUDGETS if budget >= self._weights.lowest_budget]
            rules = [self._weights.rule_for(budget) for budget in budgets]
            routing = {
                "budget": policy.budget,
                "tau": policy.tau if policy.mode == "threshold" else None,
                "budgets": budgets,
                "taus": [tau if mode == "threshold" else None for mode, tau in rules],
                "blocks": [self._blocks_at(budget) for budget in budgets],
            }
        return {"video": video_data(recording, side), "runs": runs_data(recording, side), "routing": routing}

    def _names(self, recording):
        """Names of the runs that are shown and that this recording has."""
        known = [run.name for run in recording.runs]
        return [name for name in self.shown if name in known] or known[:1]

    def _can_track(self, name):
        return self._predictor is not None and name in self._sequences

    def _blocks_at(self, budget):
        """Blocks that a budget asks for."""
        return round(target_active(budget, self._predictor.depth, self._predictor.always_on))

    def _open(self, change):
        known = [run.name for run in self.recording.runs]
        with self.hold_sync():
            self.frame = 0
            self.shown = [name if name in known else opened for name, opened in zip(self.shown, self._opened_with)]
            for name, value in self._data(self._recordings[change["new"]]).items():
                setattr(self, name, value)

    def _asked(self, _, content, buffers):
        """The front end wants another run; whatever goes wrong is said there, as nobody sees a kernel's traceback."""
        try:
            self.reroute(content["budget"], content["tau"])
            self.send({})
        except Exception as error:
            self.send({"error": f"{type(error).__name__}: {error}"})


def _videos(count):
    return f"{count} video{'' if count == 1 else 's'}"


def _one_line(text):
    return " ".join(str(text).split())


def _check(recordings, runs, predictor, weights):
    if not recordings or not all(isinstance(one, Recording) for one in recordings):
        raise RDSInputError(
            "recordings: give one recordings.Recording or several; read_recordings and record make them"
        )
    names = [recording.name for recording in recordings]
    if len(set(names)) < len(names):
        raise RDSInputError(f"recordings: names must differ; got {', '.join(names)}")
    if isinstance(runs, str) or len(runs) > 2:
        raise RDSInputError(f"runs is {runs!r}; give one or two names in a list")
    for name in runs:
        recordings[0].run(name)
    if predictor is not None and (predictor.policy is None or weights is None or not weights.taus):
        raise RDSInputError(
            "tracking again needs a predictor with a budget and `weights`, what it was built with, "
            "with calibrated thresholds: routing.weights.load_rds(file)"
        )
