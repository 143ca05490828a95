"""The command line, ``python -m rds_lib``: track, evaluate, data, and the commands of the pipeline (see `commands`).

Heavy modules are imported by the command that needs them, so that ``--help`` is quick.
"""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from rds_lib.core.errors import RDSInputError, plain
from rds_lib.core.threads import fit_threads
from rds_lib.pipeline import commands
from rds_lib.pipeline.commands import Profile
from rds_lib.pipeline.notebook import NotebookFailed
from rds_lib.work.processes import begin_command, speaks_first


class _Commands(TyperGroup):
    """Commands whose errors become one message: exit code 2 for bad input, 1 for a notebook's failed cell."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except (RDSInputError, NotebookFailed) as error:
            _say(plain(error))
            raise typer.Exit(2 if isinstance(error, RDSInputError) else 1) from None
        except RuntimeError as error:
            if type(error).__name__ != "OutOfMemoryError":  # of torch, which is not imported for this
                raise
            _say(f"the device's memory is full ({str(error).partition('. ')[0]})")
            raise typer.Exit(2) from None
        except OSError as error:  # a disk that is full, a place that may not be written
            if error.errno is None or isinstance(error, BrokenPipeError):
                raise
            _say(f"{plain(error.filename or 'input or output')}: {error.strerror}")
            raise typer.Exit(2) from None


def _say(why):
    if speaks_first():
        typer.echo(f"error: {why}", err=True)


SCORES = "scores.csv"
app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="RDS: SAM2 with a route per frame through its image encoder.",
)
data_app = typer.Typer(no_args_is_help=True, help="Make, fetch, check and describe data sets.")

Budget = Annotated[
    str | None,
    typer.Option(
        help="Target share of active blocks, 0.4 to 1 with mini's own router; or of each routed frame '30 blocks', "
        "'0.25 GMACs' of its blocks, '40 ms' of its image encoder. Without it all blocks run."
    ),
]
Tau = Annotated[
    float | None, typer.Option(help="Threshold on keep probabilities, 0 to 1; by default the budget's own.")
]
Routing = Annotated[str, typer.Option(help="threshold, sample, top_n or full.")]
Config = Annotated[
    str,
    typer.Option(
        help="mini; a config of the sam2 package, which needs --checkpoint; facebook/sam2.1-hiera-large and the like "
        "from the hub, which brings its own; or dinov3-mini, dinov3-vits16-..."
    ),
]
ShortSide = Annotated[int | None, typer.Option(help="Of DINOv3's frames in px; by default the official 960.")]
Checkpoint = Annotated[Path | None, typer.Option(help="Weights of the model, or their id; mini ships its own.")]
Rds = Annotated[Path | None, typer.Option(help="Router and I-LoRA; mini ships its own.")]
Device = Annotated[str | None, typer.Option(help="By default CUDA if there is one, else cpu.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output of this command.")]


@app.callback()
def _prepare():
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    os.environ.setdefault("TQDM_DISABLE", "1")  # SAM2's own bars; ours show on a terminal all the same
    warnings.filterwarnings("ignore", "cannot import name '_C'")  # SAM2 without its optional CUDA kernel fills no holes
    said = set()

    def say_once(message, *_, **__):
        if str(message) not in said:
            said.add(str(message))
            typer.echo(f"warning: {plain(message)}", err=True)

    warnings.showwarning = say_once
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.addLevelName(logging.WARNING, "warning")


@app.command()
def track(
    video: Annotated[str, typer.Argument(help="A folder of JPEG or PNG frames, a video file, or a camera: camera:0.")],
    out: Annotated[Path, typer.Option(help="Folder to write; appears whole or not at all.")],
    mask: Annotated[
        Path | None, typer.Option(help="Palette or grey PNG: one index per object, or black and white.")
    ] = None,
    box: Annotated[list[str], typer.Option(help="x0,y0,x1,y1 in px; once per object.")] = [],  # noqa: B006
    click: Annotated[list[str], typer.Option(help="x,y in px; once per object.")] = [],  # noqa: B006
    start_frame: Annotated[int, typer.Option(help="The frame that the prompt is on, counted from 0.")] = 0,
    budget: Budget = None,
    tau: Tau = None,
    routing: Routing = "threshold",
    config: Config = "mini",
    checkpoint: Checkpoint = None,
    rds: Rds = None,
    short_side: ShortSide = None,
    device: Device = None,
    fps: Annotated[float | None, typer.Option(help="Of overlay.mp4; the video's own, or 24 for a folder.")] = None,
    overlay: Annotated[bool, typer.Option(help="Write overlay.mp4.")] = True,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more: VIDEO is still being written.")] = False,
    patience: Annotated[float, typer.Option(help="With --follow: seconds without a new frame that are the end.")] = 10,
    hold: Annotated[
        float | None,
        typer.Option(help="Frames a second to keep up, by running fewer blocks; --budget then only brings the router."),
    ] = None,
    overwrite: Overwrite = False,
):
    """Track objects through a video: masks, routes.csv, inspector.html and overlay.mp4.

    Each frame is written as it comes. Ctrl-C ends it, and what was tracked until then stays.
    """
    fit_threads(config)
    from rds_lib.data.output import check_output
    from rds_lib.pipeline.chosen_model import predictor_of
    from rds_lib.pipeline.track import MARKER, track_video
    from rds_lib.routing.pace import check_fps

    if hold is not None:
        check_fps(hold, "--hold")
    if hold is not None and routing == "full":
        raise RDSInputError(f"--hold {hold:g}: needs a router; leave --routing full out")
    budget = "1" if hold is not None and budget is None else budget  # which brings the router
    check_output(out, overwrite=overwrite, marker=MARKER)
    boxes, clicks = [_numbers(text, 4, "--box") for text in box], [_numbers(text, 2, "--click") for text in click]
    prompts = _first_prompts(video, follow, mask or "", boxes, clicks)
    options = {"budget": budget, "tau": tau, "routing": routing, "device": device, "short_side": short_side}
    predictor = predictor_of(config, checkpoint, rds, **options)
    when = {"follow": follow, "patience": patience, "hold": hold, "start_frame": start_frame}
    how = {"overlay_video": overlay, "fps": fps, "overwrite": overwrite, "progress": _on_terminal()}
    summary = track_video(predictor, video, prompts, out, **when, **how)
    typer.echo(f"{out}: {summary}")


@app.command()
def evaluate(
    gt: Annotated[Path | None, typer.Option(help="Root of the data set that --pred is scored against.")] = None,
    pred: Annotated[Path | None, typer.Option(help="Predictions, <sequence>/<frame>.png.")] = None,
    protocol: Annotated[str, typer.Option(help="davis2017, sav or ytvos.")] = "davis2017",
    data: Annotated[Path | None, typer.Option(help="Root of a data set to track and score.")] = None,
    layout: Annotated[str, typer.Option(help="davis2017, sav or ytvos.")] = "davis2017",
    split: str = "val",
    out: Annotated[Path | None, typer.Option(help="With --data: folder for masks, scores.csv and routes.csv.")] = None,
    budget: Budget = None,
    tau: Tau = None,
    routing: Routing = "threshold",
    config: Config = "mini",
    checkpoint: Checkpoint = None,
    rds: Rds = None,
    short_side: ShortSide = None,
    device: Device = None,
    overwrite: Overwrite = False,
):
    """Score predictions (--gt, --pred), or track a data set and score that (--data, --out)."""
    fit_threads(config)
    if gt is not None and pred is not None and data is None:
        from rds_lib.metrics.masks import score_masks

        table = score_masks(_annotation_root(gt, protocol, split), pred, protocol=protocol, split=split)
        if not table["JF"].notna().any():
            raise RDSInputError(
                f"{gt}: no frame counts in {protocol}; without ground truth only the set's server scores"
            )
        typer.echo(_headline(table))
    elif data is not None and out is not None and gt is None and pred is None:
        from rds_lib.data.datasets import read_dataset
        from rds_lib.data.output import check_output
        from rds_lib.pipeline.chosen_model import predictor_of

        check_output(out, overwrite=overwrite, marker=SCORES)
        sequences = read_dataset(data, layout=layout, split=split)
        # no post-processing: the numbers of video object segmentation are published without
        options = {"budget": budget, "tau": tau, "routing": routing, "device": device, "short_side": short_side}
        predictor = predictor_of(config, checkpoint, rds, **options, apply_postprocessing=False)
        gt_root = _annotation_root(data, layout, split)
        scores = _track_and_score(predictor, sequences, gt_root, layout, split, out, overwrite)
        _echo_scores(scores, out)
    else:
        raise RDSInputError(
            "give either --gt and --pred, to score predictions, or --data and --out, to track and score"
        )


@data_app.command()
def generate(
    out: Annotated[Path, typer.Option(help="Folder to write; appears whole or not at all.")],
    profile: Profile = None,
    overwrite: Overwrite = False,
):
    """Write the generated data sets of a profile: train, calibration and three validation sets."""
    from rds_lib.data.generate import generate_datasets
    from rds_lib.pipeline.params import load_params

    generate_datasets(load_params(profile), out, overwrite=overwrite)


@data_app.command("fetch")
def fetch_data(
    name: Annotated[str, typer.Argument(help="davis2017; sav, ytvos, mose and lvos say where to get them.")],
    out: Annotated[Path | None, typer.Option(help="Folder that the set's own folder appears in, whole or not.")] = None,
    url: Annotated[
        list[str], typer.Option(help="Address of the archive in place of the known ones; tried in turn.")
    ] = [],  # noqa: B006,E501
    sha256: Annotated[str | None, typer.Option(help="Of the archive, in place of the known one; or unknown.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the archive there when it is unpacked.")] = False,
):
    """Fetch a data set and unpack it. Whatever stops it, the same command goes on."""
    from rds_lib.supplies.catalogue import supply
    from rds_lib.supplies.fetch import fetch

    entry = supply(name, urls=url, sha256=sha256)
    if out is None:
        raise RDSInputError(f"data fetch {name}: give the folder to put it in, --out DIR")
    try:
        found = fetch(entry, out, keep=keep, say=lambda text: typer.echo(plain(text), err=True))
    except KeyboardInterrupt:
        typer.echo(f"stopped; the same command goes on with what is in {plain(out)}", err=True)
        raise typer.Exit(130) from None
    known = "as it should be" if found.is_checked else "not compared, as no hash was known before"
    typer.echo(f"archive: SHA-256 {found.sha256}, {known}; licence: {entry.licence}")
    had = "" if found.is_new else "was there already: "
    typer.echo(plain(f"{found.root}: {had}{found.files} files, {found.size / 1e9:.2f} GB; layout {entry.layout}"))


@data_app.command("check")
def check_data(
    root: Annotated[Path, typer.Argument(help="The folder that describe and evaluate take too.")],
    layout: Annotated[str, typer.Option(help="davis2017, sav, ytvos, mose or lvos.")] = "davis2017",
    split: str = "val",
    deep: Annotated[bool, typer.Option("--deep", help="Decode every picture; by default headers and ends.")] = False,
):
    """Look through a data set before hours are spent on it; exit code 2 if it has errors, 0 with warnings alone."""
    from rds_lib.supplies.check import check_dataset
    from rds_lib.supplies.findings import ERROR

    report = check_dataset(root, layout=layout, split=split, deep=deep)
    for finding in report.findings:
        typer.echo(plain(finding))
    typer.echo(report.summary)
    if report.count(ERROR):
        raise typer.Exit(2)


@data_app.command()
def describe(root: Path, layout: str = "davis2017", split: str = "val"):
    """Print one line per sequence of a data set."""
    from rds_lib.data.datasets import describe as describe_sequences, read_dataset

    typer.echo(plain(describe_sequences(read_dataset(root, layout=layout, split=split)).to_string(index=False)))


def _first_prompts(video, follow, mask, boxes, clicks):
    """The prompts of ``track``; checked against a video that is there as a whole."""
    from rds_lib.data.images import list_frames
    from rds_lib.data.video import video_size
    from rds_lib.pipeline.track import first_prompts

    given = {"mask": mask, "box": boxes, "click": clicks}
    if follow and mask and mask.resolve().parent == Path(video).resolve():
        raise RDSInputError(f"{mask}: lies in the folder that is followed, as frames do; move the mask elsewhere")
    if follow or video.startswith("camera:"):
        return first_prompts(None, **given)
    return first_prompts(video_size(video), frames=list_frames(video) if Path(video).is_dir() else (), **given)


def _track_and_score(predictor, sequences, gt_root, layout, split, out, overwrite):
    from rds_lib.core.artifacts import write_json, write_table
    from rds_lib.data.origin import FILE
    from rds_lib.data.output import output_folder
    from rds_lib.evaluation.scores import score_tracker
    from rds_lib.model.backbone import origin_of
    from rds_lib.model.track import track_sequence

    with output_folder(out, overwrite=overwrite, marker=SCORES) as stage:
        scores = score_tracker(
            lambda sequence: track_sequence(predictor, sequence),
            sequences,
            gt_root,
            layout=layout,
            split=split,
            keep=stage / "masks",
            label=layout,
            keep_going=True,
        )
        if not scores.frames:
            raise RDSInputError(next(iter(scores.faults.values())))
        write_table(stage / SCORES, scores.objects)
        write_table(stage / "routes.csv", scores.routes)
        write_json(stage / FILE, {"model": origin_of(predictor).as_dict()})
    return scores


def _echo_scores(scores, out):
    """Say what came out, and end with an error where a sequence failed: its masks may be there, its scores are not."""
    masks = f"the masks are in {out / 'masks'}"
    unscored = f"nothing to score: there is no ground truth but the prompts; {masks}"
    if len(scores.objects):
        typer.echo(_headline(scores.objects) if scores.has_truth else unscored)
    if scores.frames:
        active = f"{scores.active:.1f} blocks active, {scores.active_routed:.1f} on routed frames"
        typer.echo(f"{scores.frames / scores.seconds:.1f} frames a second, {active}")
    if scores.faults:
        name, why = next(iter(scores.faults.items()))
        more = f" (and {len(scores.faults) - 1} more)" if len(scores.faults) > 1 else ""
        raise RDSInputError(f"not tracked or not scored{more}: {name!r}: {why}; {masks}")


def _annotation_root(root, layout, split):
    """Where the evaluation looks for ground truth: DAVIS's root, and the split's own folder for the other two."""
    from rds_lib.data.layouts import locate

    if layout == "davis2017":
        return root
    masks = locate(root, layout, split).masks
    return masks.parent if masks.is_dir() else root


def _headline(table) -> str:
    """The summary of a protocol in one line, scores in points."""
    parts = (
        f"{name} {100 * value:.1f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in table.attrs["summary"].items()
    )
    return ", ".join(parts)


def _numbers(text, n, option):
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != n:
        raise RDSInputError(f"{option} {text!r}: expected {n} numbers with commas between them, in px")
    return values


def _on_terminal():
    return sys.stderr.isatty()


app.add_typer(commands.app)
app.add_typer(data_app, name="data")

if __name__ == "__main__":
    begin_command()
    app(prog_name="python -m rds_lib")
