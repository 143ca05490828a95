"""Command `figures`: the paper's figures 13 to 25 on videos of a real set, which it tracks with SAM2 and with RDS."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from plotly.offline import get_plotlyjs

from rds_lib.core import paths
from rds_lib.core.artifacts import write_json, write_table, write_text
from rds_lib.core.errors import RDSInputError
from rds_lib.data.datasets import Sequence as VideoSequence, read_dataset
from rds_lib.data.hub import checkpoint_named
from rds_lib.data.layouts import shorten
from rds_lib.data.origin import FILE, SHOWN, Origin, file_sha256
from rds_lib.data.output import output_folder
from rds_lib.data.sources import Source
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.evaluate import evaluate_arms
from rds_lib.evaluation.names import RDS, SAM2
from rds_lib.evaluation.recordings import read_recordings
from rds_lib.evaluation.tables import stack
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import SHIPPED, build_model, weights_of
from rds_lib.pipeline.params import load_params
from rds_lib.pipeline.weights import ANY, predictor_for, weights_file
from rds_lib.routing.build import MINI_RDS
from rds_lib.routing.weights import load_rds
from rds_lib.show.figures import OF_COMPARED, OF_VIDEOS, check_count, video_figures
from rds_lib.show.inspector.page import PAGE_BYTES
from rds_lib.show.study import VideoStudy
from rds_lib.show.video_index import index_page

MARKER = "index.html"
CAUTION = "Caution: this video is one of those that trained the weights, so it is no test of them."


@dataclass(frozen=True)
class ChosenVideos(Source):
    """Some videos of a data set, in an order of one's own."""

    chosen: tuple[VideoSequence, ...] = field(default=(), compare=False)

    def sequences(self) -> list[VideoSequence]:
        return list(self.chosen)


def draw_videos(
    params,
    folder: Path,
    data: Path,
    out: Path,
    *,
    split: str = "val",
    videos: Sequence[str] | None = None,
    compared: Sequence[str] | None = None,
    budget: float | None = None,
    overwrite: bool = False,
) -> list[str]:
    """Track videos of a DAVIS-shaped set and draw the figures of single videos; returns the names of the files.

    Writes pictures and pages, ``index.html``, ``model.json`` (which weights) and a ``.gitignore`` that has git leave
    the folder alone, whole or not at all.

    Parameters
    ----------
    params, folder : Params, Path
        The profile whose model tracks, and the folder of its products; see `rds_weights`.
    videos, compared : sequence of str, optional
        Of figures 13 to 22 and 23 to 25; by default the paper's own that are there. With ``videos`` alone its first
        three are compared.
    budget : float, optional
        By default that of the profile's figures.

    Raises
    ------
    RDSInputError
        If the set, a video or the weights are not there, or the output cannot be written.
    """
    with output_folder(out, overwrite=overwrite, marker=MARKER) as stage:
        budget = params.figures.budget if budget is None else budget
        rds, model = rds_weights(params, folder, budget), model_weights(params)
        source, *numbers = choose_videos(data, split, videos, compared)
        router = {"file": paths.shown(rds), "sha256": file_sha256(rds)}
        weights = (_in_short(model.checkpoint, model.sha256), _in_short(rds.name, router["sha256"]))
        study, quality = _track(params, source, rds, trained_on(model), weights, budget)
        figures = video_figures(study, *numbers)
        for figure in figures.values():
            figure.write(stage)
        found = {"model": {"file": model.checkpoint, "sha256": model.sha256}, "RDS": router}
        write_text(stage / "plotly.min.js", get_plotlyjs())
        write_text(stage / MARKER, index_page(study, figures, quality, found))
        write_json(stage / FILE, {"model": model.as_dict(), "rds": router})
        write_text(stage / ".gitignore", "*\n")
    return [f"{figure.name}.{figure.kind}" for figure in figures.values()]


def choose_videos(
    data: Path, split: str, videos: Sequence[str] | None, compared: Sequence[str] | None
) -> tuple[ChosenVideos, dict[int, str], dict[int, str]]:
    """The videos to track, and the names of those of figures 13 to 22 and 23 to 25 by the number of their first figure.

    The paper's own videos keep its numbers; others take those that are left.
    """
    here = {sequence.name: sequence for sequence in read_dataset(data, layout="davis2017", split=split)}
    paper = load_params("paper").figures
    if compared is None and videos is not None:
        compared = videos[: len(OF_COMPARED)]
    found = []
    for key, names, own, numbers in (
        ("--videos", videos, paper.videos, OF_VIDEOS),
        ("--compared", compared, paper.compared, OF_COMPARED),
    ):
        names = [name for name in own if name in here] if names is None else list(dict.fromkeys(names))
        check_count(key, names, numbers)
        found.append(numbered(names, own, numbers))
    wanted = dict.fromkeys(name for group in found for name in group.values())
    missing = [repr(name) for name in wanted if name not in here]
    if missing or not wanted:
        what = f"no video {', '.join(missing)}" if missing else "none of the paper's own videos, so name some: --videos"
        raise RDSInputError(f"{data}: list {split} has {what}; it has: {shorten(list(here), 40)}")
    short = [name for name in wanted if len(here[name]) < 2]
    if short:
        raise RDSInputError(f"{data}: {', '.join(short)} has 1 frame; the figures need videos of at least 2")
    source = ChosenVideos("davis", data, "davis2017", split, tuple(here[name] for name in wanted))
    return source, *found


def numbered(names: Sequence[str], own: Sequence[str], numbers: Sequence[int]) -> dict[int, str]:
    """Names by number: those of ``own`` have the number at their place, the others the first ones left."""
    found = {number: name for number, name in zip(numbers, own) if name in names}
    left = (number for number in numbers if number not in found)
    return dict(sorted((found | dict(zip(left, (name for name in names if name not in own)))).items()))


def rds_weights(params, folder: Path, budget: float) -> Path:
    """The file of a router and its adapters: the profile's own for a budget or for all, or mini's shipped ones.

    Raises
    ------
    RDSInputError
        If there is none, or it does not serve the budget.
    """
    own = [weights_file(folder / "train", name) for name in (str(budget), ANY)]
    path = next((path for path in own if path.is_file()), MINI_RDS if params.model.config == "mini" else None)
    if path is None:
        where = paths.shown(folder / "train")
        raise RDSInputError(
            f"profile {params.profile}: no weights of RDS in {where}, and none ship with {params.model.config}; "
            f"train them: dvc exp run -S profile={params.profile}, or name another profile"
        )
    weights = load_rds(paths.shipped(path))
    weights.check_router()
    weights.rule_for(budget)
    return path


def model_weights(params) -> Origin:
    """The weights of a profile's model; an error where it has none but random ones."""
    origin = weights_of(params.model.config, checkpoint_named(params.model.checkpoint))
    if origin.sha256 is None:
        raise RDSInputError(
            f"params/{params.profile}.yaml: model.checkpoint is empty, and {params.model.config} ships no weights; "
            "name a checkpoint there, or another profile"
        )
    return origin


def trained_on(origin: Origin) -> tuple[str, ...]:
    """Names of the real videos that trained a model's weights, as far as we know: those of the shipped ones."""
    ours = {weights_of(config).tensors_sha256 for config in SHIPPED}
    return paths.MINI_SAM2_VIDEOS if origin.tensors_sha256 in ours else ()


def _track(
    params, source: ChosenVideos, rds: Path, learnt: Sequence[str], weights: tuple[str, ...], budget: float
) -> tuple[VideoStudy, pd.DataFrame]:
    """What the figures are drawn from, and J&F by video; the masks on the way are not kept.

    ``learnt`` are the videos that trained the model, ``weights`` what figures say of the files.
    """
    arms = [
        Arm(SAM2, 1.0, partial(predictor_for, params, routing="full"), keep_masks=True),
        Arm(RDS, budget, partial(predictor_for, params, rds, budget=budget), kind="learned", keep_masks=True),
    ]
    shape = backbone_of(build_model(params.model.config, False)).shape
    with TemporaryDirectory() as temporary:
        place = Path(temporary)
        results = evaluate_arms(arms, [source], keep=place / "predictions")[source.name]
        routed = {source.name: {(RDS, budget): results[RDS, budget]}}
        write_table(place / "routes.csv", stack(routed, lambda scores: scores.routes))
        recordings = read_recordings(place, source, shape=shape)
    quality = {method: scores.objects.groupby("sequence")["JF"].mean() for (method, _), scores in results.items()}
    study = VideoStudy(
        profile=params.profile,
        dataset=f"{source.root.resolve().name} {source.split}",
        shape=shape,
        budget=budget,
        recordings={recording.name: recording for recording in recordings},
        weights=weights,
        cautions=dict.fromkeys(learnt, CAUTION),
        page_bytes=PAGE_BYTES,
    )
    return study, pd.DataFrame(quality)


def _in_short(name: str, sha256: str) -> str:
    return f"{name} (SHA-256 {sha256[:SHOWN]})"
