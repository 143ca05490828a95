"""Run arms over data sets and score them."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from rds_lib.core.artifacts import write_table
from rds_lib.data.sources import Source
from rds_lib.data.video import KeptFrames, kept_frames
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.controls import Situation, random_plans
from rds_lib.evaluation.kept_scores import folder_name, kept_scores
from rds_lib.evaluation.names import RDS, run_name
from rds_lib.evaluation.recordings import RUNS
from rds_lib.evaluation.scores import Job, Scores, collect_scores, score_jobs
from rds_lib.model.backbone import backbone_of
from rds_lib.routing.route_table import routed_frames
from rds_lib.work import ranks
from rds_lib.work.parallel import cpu_workers


def evaluate_arms(
    arms: Iterable[Arm],
    sources: Iterable[Source],
    *,
    keep: Path | None = None,
    cache: Path | None = None,
    ranking: pd.DataFrame | None = None,
    seed: int = 0,
    plans: int = 0,
) -> dict[str, dict[tuple[str, float], Scores]]:
    """Score arms in order, each on the sequences of all data sets at once.

    Within `ranks.shared` the sequences are shared out, every rank returns all scores, and the first writes ``keep``.

    Parameters
    ----------
    arms : iterable of Arm
        A control comes after the arm ``RDS`` of its level and shares its ``build``.
    keep : Path, optional
        Receives the masks of the arms that keep them, ``<data set>/<folder>/<sequence>``, and ``<data set>/runs.csv``.
    cache : Path, optional
        Keeps the scores and masks of every arm that is done, for a run that goes on where an earlier one was stopped.
        Whoever names the folder names another one when anything changes that scores follow from.
    ranking : DataFrame, optional
        ``importance.csv``, for the control with the most important blocks.
    seed : int
        Of the controls that draw at random.
    plans : int
        How many random fixed routes to draw at each level.

    Returns
    -------
    dict
        Data set -> (method, level) -> Scores.
    """
    arms, sources = list(arms), list(sources)
    with tempfile.TemporaryDirectory() as temporary, kept_frames() as frames:
        run = _Run(arms, sources, Path(temporary), keep, cache, ranking, seed, plans, frames)
        for arm in arms:
            run(arm)
    for source in sources if keep is not None and ranks.is_first() else ():
        kept = [(run_name(arm.method, arm.level, "_"), arm.method, arm.level) for arm in arms if arm.keep_masks]
        write_table(keep / source.name / RUNS, pd.DataFrame(kept, columns=["folder", "method", "level"]))
    return run.results


class _Run:
    """Arms in progress: their scores, and the predictors that a later arm shares."""

    def __init__(self, arms, sources, temporary, keep, cache, ranking, seed, plans, frames: KeptFrames):
        self.sequences = {source: source.sequences() for source in sources}
        self.temporary, self.keep, self.cache = temporary, keep, cache
        self.ranking, self.seed, self.n_plans = ranking, seed, plans
        self.frames, self.results = frames, {source.name: {} for source in sources}
        self._turns, self._predictors, self._plans = Counter(arm.build for arm in arms), {}, {}

    def __call__(self, arm):
        predictor = self._predictor(arm)
        sources = [source for source in self.sequences if source.layout == "davis2017" or not arm.davis_only]
        if arm.route is None and arm.combine is None:
            name, track = run_name(arm.method, arm.level), arm.track(predictor)
            for source, scores in zip(sources, self._scores(name, arm, predictor, track, sources), strict=True):
                self.results[source.name][arm.method, arm.level] = scores
        else:
            for source in sources:
                scores = self._control(arm, predictor, source)
                if scores is not None:
                    self.results[source.name][arm.method, arm.level] = scores
        self._turns[arm.build] -= 1
        if not self._turns[arm.build]:
            self._predictors.pop(arm.build, None)

    def _predictor(self, arm):
        if arm.build is not None and arm.build not in self._predictors:
            self._predictors[arm.build] = arm.build()
        return self._predictors.get(arm.build)

    def _control(self, arm, predictor, source) -> Scores | None:
        """Scores of a control, which follows from what RDS did; None where it does not apply."""
        rds = self.results[source.name][RDS, arm.level]
        given = Situation(rds, backbone_of(predictor).shape, self.ranking, self.seed)
        if arm.combine is None:
            route = arm.route(given)
            name = run_name(arm.method, arm.level)
            return None if route is None else self._follow(arm, predictor, source, route, name)
        key = arm.level, source.name
        if key not in self._plans:
            name, routes = run_name("random plan", arm.level), random_plans(given, self.n_plans)
            plans = (self._follow(arm, predictor, source, route, f"{name} {n}") for n, route in enumerate(routes))
            self._plans[key] = list(plans)
        return arm.combine(self._plans[key]) if self._plans[key] else None

    def _follow(self, arm, predictor, source, route, name) -> Scores:
        """Scores under a fixed route."""

        def track(sequence):
            predictor.set_fixed_route(route(sequence) if callable(route) else route)
            return arm.track(predictor)(sequence)

        (scores,) = self._scores(f"{name}, {source.name}", arm, predictor, track, [source])
        predictor.set_fixed_route(None)
        return scores

    def _scores(self, name, arm, predictor, track, sources) -> list[Scores]:
        """What `_track` gives, done once where there is a cache; then the masks are copied from there."""
        masks = self.keep if arm.keep_masks else None
        if self.cache is None:
            return self._track(arm, predictor, track, sources, masks or self.temporary)
        folder = self.cache / folder_name(name)
        place = self.temporary if masks is None else folder / "masks"
        scores = kept_scores(folder, lambda: self._track(arm, predictor, track, sources, place))
        if masks is not None and ranks.is_first():
            shutil.copytree(place, masks, dirs_exist_ok=True)
        return scores

    def _track(self, arm, predictor, track, sources, folder) -> list[Scores]:
        name = run_name(arm.method, arm.level, "_") if arm.keep_masks else ""
        jobs = [
            Job(sequence, source.root, source.layout, source.split, folder / source.name / name)
            for source in sources
            for sequence in self.sequences[source]
        ]
        for job in jobs if predictor is not None else ():  # decode before workers are forked, so that they share it
            self.frames.fill(job.sequence.frame_paths[0].parent, predictor.image_size)
        results = iter(score_jobs(track, jobs, workers=cpu_workers(), label=run_name(arm.method, arm.level)))
        scores = [collect_scores([next(results) for _ in self.sequences[source]], source.layout) for source in sources]
        if predictor is None:
            return scores
        return [_with_work(one, predictor, by_share=arm.kind in ("blocks", "tokens")) for one in scores]


def _with_work(scores: Scores, predictor, *, by_share: bool) -> Scores:
    whole, routed = (
        realised_gmacs(predictor, table, by_share=by_share) for table in (scores.routes, routed_frames(scores.routes))
    )
    return replace(scores, gmacs=whole, gmacs_routed=routed)


def realised_gmacs(predictor, routes: pd.DataFrame, *, by_share: bool = False) -> float:
    """GMACs of the encoder's blocks, mean over all frames of a route table; NaN without any.

    ``by_share``: ``keep_prob`` is the share of the tokens that went through each block's MLP, as gates report it.
    """
    if not len(routes):
        return float("nan")
    means = routes.astype({"active": float}).groupby("block")[["active", "keep_prob"]].mean()
    ran = means["active"].to_numpy()
    return backbone_of(predictor).gmacs(ran, means["keep_prob"].to_numpy() if by_share else None)
