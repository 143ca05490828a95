"""Commands of the pipeline: what ``dvc.yaml``, the Makefile and ``torchrun`` call.

Heavy modules are imported by the command that needs them, so that ``--help`` and ``notebook source`` are quick.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from rds_lib.core.errors import RDSInputError
from rds_lib.core.threads import fit_threads
from rds_lib.pipeline.stages import STAGES
from rds_lib.work import ranks

app = typer.Typer()
notebook_app = typer.Typer(no_args_is_help=True, help="Run and tidy the notebooks in notebooks/.")
app.add_typer(notebook_app, name="notebook")

Profile = Annotated[
    str | None, typer.Option(help="A file in params/ without its suffix; by default what params.yaml names.")
]
Out = Annotated[Path | None, typer.Option(help="Folder to write; by default the stage's own below runs/<profile>.")]
Name = Annotated[str, typer.Argument(help="A notebook, such as 02_importance.")]


@app.command()
def train(
    run: Annotated[str, typer.Argument(help="A budget of the profile, any (one router for all) or full (no router).")],
    profile: Profile = None,
):
    """Train one run of RDS, alone or under torchrun on several GPUs; the stage then finds it trained."""
    params, folder = _begin(profile, trains=True)
    from rds_lib.pipeline.train import train_run

    train_run(params, folder, run)


@app.command()
def baselines(
    profile: Profile = None,
    method: Annotated[str | None, typer.Option(help="slimsam, pbd, dyt, adavit or another registered one.")] = None,
    level: Annotated[float | None, typer.Option(help="One of the method's levels; SlimSAM's are ninths.")] = None,
):
    """Train baselines: all of them, one method, or one level; alone or under torchrun. The stage finds them trained."""
    params, folder = _begin(profile, trains=True)
    from rds_lib.methods import METHODS, method_of
    from rds_lib.pipeline.baselines import train_level

    if level is not None and method is None:
        raise RDSInputError(f"--level {level:g}: name the method too, with --method")
    for name in [method] if method else METHODS:
        for one in [level] if level is not None else method_of(name).levels(params.baselines):
            train_level(params, folder, name, one)


@app.command()
def pretrain(profile: Profile = None, model: Annotated[str, typer.Option(help="mini, mini_half or dinov3.")] = "mini"):
    """Train one of the mini models itself, alone or under torchrun; the frozen stage pretrain then finds it trained."""
    params, _ = _begin(profile, trains=True)
    from rds_lib.pipeline.pretrain import train_model

    train_model(params, model)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help="importance, headroom, train, baselines, evaluation or dinov3.")],
    profile: Profile = None,
):
    """Do the long work of a stage ahead of DVC, alone or shared out under torchrun; the stage then finds it done."""
    params, folder = _begin(profile, trains=True)
    from rds_lib.pipeline.kept import make_ahead

    make_ahead(name, params, folder)


@app.command()
def ship(
    profile: Profile = None,
    renew: Annotated[int, typer.Option(help="Keep trainings of older code whose first so many steps are alike.")] = 0,
):
    """Copy a profile's trainings, with their logs, to assets/trainings, from which its stages take them."""
    params, folder = _begin(profile, trains=True)
    from rds_lib.pipeline.kept_trainings import renewing
    from rds_lib.pipeline.ship import ship as copy_trainings

    with renewing(renew):
        typer.echo(copy_trainings(params, folder))


@app.command()
def benchmark(
    profile: Profile = None,
    out: Out = None,
    device: Annotated[str | None, typer.Option(help="By default CUDA if there is one, else cpu.")] = None,
):
    """Time SAM2, the full encoder, RDS and the baselines in turn: table, blocks and frames.csv, and metrics.json."""
    params, folder = _begin(profile)
    with _result(out, folder, "benchmark") as place:
        from rds_lib.pipeline.benchmark import time_profile

        table = time_profile(params, place, workdir=folder, device=device)
    columns = "method level active_blocks gmacs encoder_ms frame_ms fps speedup speedup_low speedup_high eta".split()
    typer.echo(table[columns].round(3).to_string(index=False))


@app.command()
def headroom(
    data: Annotated[Path | None, typer.Option(help="Root of a data set; by default the profile's own clips.")] = None,
    layout: Annotated[str, typer.Option(help="davis2017, sav or ytvos.")] = "davis2017",
    split: Annotated[str | None, typer.Option(help="val with --data, else as the profile has it.")] = None,
    config: Annotated[str, typer.Option(help="With --data: mini, a config of sam2, or an id on the hub.")] = "mini",
    checkpoint: Annotated[
        Path | None, typer.Option(help="With --data: weights of the model, or their id; mini ships its own.")
    ] = None,
    routes: Annotated[int | None, typer.Option(help="Random routes to compare, at least 2; 24 with --data.")] = None,
    blocks: Annotated[int | None, typer.Option(help="Blocks of a route, those always on among them.")] = None,
    budget: Annotated[float | None, typer.Option(help="Instead of --blocks; 0.4 with --data.")] = None,
    frames: Annotated[int | None, typer.Option(help="To measure of each video, evenly spread; 6 with --data.")] = None,
    length: Annotated[int | None, typer.Option(help="Frames to track of each video; all with --data.")] = None,
    mirror: Annotated[bool, typer.Option(help="Measure a mirrored copy too, which tells noise from the rest.")] = True,
    seed: Annotated[int | None, typer.Option(help="Of routes, folds and bootstraps; 0 with --data.")] = None,
    profile: Profile = None,
    device: Annotated[str | None, typer.Option(help="By default CUDA if there is one, else cpu.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default headroom below runs/<profile>.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output of this command.")] = False,
):
    """Measure what a dynamic router could win over the best static plan: damage and IoU under random routes.

    Without --data the profile's own model and clips, by its section headroom, of which options change values.
    """
    params, folder = _begin(profile, own_data=data is None or out is None)
    from rds_lib.core.artifacts import read_json
    from rds_lib.data.datasets import read_dataset
    from rds_lib.data.output import check_output
    from rds_lib.evaluation.headroom_names import FILE
    from rds_lib.pipeline import headroom as own_clips
    from rds_lib.pipeline.headroom import OF_DATA, blocks_to_run, open_tracker, run_headroom
    from rds_lib.report.headroom import as_page

    out = check_output(out or folder / "headroom", overwrite=overwrite, marker=FILE)
    values = {"routes": routes, "frames": frames, "length": length, "seed": seed}
    given = {name: value for name, value in values.items() if value is not None}
    if data is None:
        if config != "mini" or checkpoint:
            raise RDSInputError("--config and --checkpoint: only with --data; a profile names its own model")
        if blocks is not None and budget is not None:
            raise RDSInputError(f"--blocks {blocks} and --budget {budget:g}: give one of the two")
        given |= {name: value for name, value in (("split", split), ("budget", budget)) if value is not None}
        own, change = params.with_section("headroom", **given), {"blocks": blocks, "mirror": mirror, "device": device}
        is_stage = "DVC_STAGE" in os.environ and own == params and (blocks, mirror, device) == (None, True, None)
        make = own_clips.run if is_stage else partial(own_clips.measure_profile, **change)
        make(own, folder, out)
        summary = read_json(out / FILE)
    else:
        split = split or "val"
        videos = read_dataset(data, layout=layout, split=split)
        model = open_tracker(config, checkpoint, device)
        about = {"model": f"{config}, {checkpoint.name}" if checkpoint else config}
        about["data"] = f"{data.resolve().name} {split}"
        options = {"n_active": blocks_to_run(model.backbone, blocks, budget), "mirror": mirror, **OF_DATA, **given}
        summary = run_headroom(model, videos, out, overwrite=overwrite, **options, **about)
    typer.echo(f"{as_page(summary)}\n{out}: headroom.md, headroom.png, headroom.csv, headroom.json, measured.npz")


@app.command()
def figures(
    data: Annotated[Path, typer.Option(help="Root of a data set in the layout of DAVIS 2017.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; by default build/davis_figures.")] = None,
    videos: Annotated[
        str | None, typer.Option(help="Of figures 13 to 22: up to 5 names, with commas; by default the paper's.")
    ] = None,
    compared: Annotated[
        str | None, typer.Option(help="Of figures 23 to 25: up to 3; by default the first of --videos, or the paper's.")
    ] = None,
    split: str = "val",
    budget: Annotated[float | None, typer.Option(help="Of RDS; by default that of the profile's figures.")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Whose weights: those of runs/<profile>/train, or mini's shipped ones.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier output of this command.")] = False,
):
    """Draw the paper's figures 13 to 25 on videos of a real set, tracked with SAM2 and with RDS."""
    params, folder = _begin(profile, own_data=out is None)
    from rds_lib.core.paths import BUILD
    from rds_lib.pipeline.video_figures import MARKER, draw_videos

    names = [None if text is None else [name.strip() for name in text.split(",")] for text in (videos, compared)]
    options = {"split": split, "budget": budget, "overwrite": overwrite}
    out = out or BUILD / "davis_figures"
    files = draw_videos(params, folder, data, out, videos=names[0], compared=names[1], **options)
    typer.echo(f"{out}: {', '.join(files)}; open {out / MARKER}")


@app.command()
def report(profile: Profile = None, out: Out = None):
    """Write Table 9 and judge the paper's claims from the tables of the earlier stages: table9 and claims."""
    params, folder = _begin(profile)
    from rds_lib.core.artifacts import read_table

    with _result(out, folder, "report") as place:
        STAGES["report"].build(params, folder, place)
        claims = read_table(place / "claims.csv")
    typer.echo(claims[["key", "effect", "verdict"]].to_string(index=False))


@app.command()
def check(profile: Profile = None, out: Out = None):
    """Compare a run with the committed results, number by number: reproduction.md and reproduction.csv."""
    params, folder = _begin(profile)
    with _result(out, folder, "check") as place:
        lines = STAGES["check"].build(params, folder, place)
    typer.echo("\n".join([*lines, f"More in {(out or folder / 'check') / 'reproduction.md'}."]))


@app.command()
def publish(profile: Profile = None):
    """Copy a run's report and figures into reports/, and write their numbers into its page and the README."""
    params, folder = _begin(profile)
    from rds_lib.core.paths import shown
    from rds_lib.pipeline.publish import publish as publish_run

    changed = publish_run(params, folder)
    typer.echo("\n".join([*map(shown, changed), f"{len(changed)} files changed."]))


@app.command()
def doctor(
    profile: Profile = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Time nothing: no estimate of how long the stages take.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The same for programs.")] = False,
):
    """Say what this machine and this checkout can do, and whether each stage of a profile could end here.

    One line a check: what was found, and what mends it. The exit code is 2 where a stage could not end.
    """
    import json

    from rds_lib.core.errors import plain
    from rds_lib.core.paths import check_checkout
    from rds_lib.pipeline.doctor.examine import examine

    check_checkout()
    found = examine(profile, quick=quick)
    typer.echo(json.dumps(found.as_json(), indent=1) if as_json else plain(found.as_text()))
    raise typer.Exit(found.code)


@notebook_app.callback()
def _needs_notebooks():
    from rds_lib.core.paths import check_checkout

    check_checkout()


@notebook_app.command()
def source(name: Annotated[str | None, typer.Argument(help="A notebook; by default all that stages run.")] = None):
    """Write the code cells into build/source, for the stages to depend on."""
    from rds_lib.pipeline.notebook import write_source

    for each in [name] if name else [stage.notebook for stage in STAGES.values() if stage.notebook]:
        write_source(each)


@notebook_app.command()
def run(name: Name, profile: Profile = None):
    """Execute a copy with a profile's values; it goes to runs/<profile>/executed."""
    _log()
    from rds_lib.pipeline import notebook

    notebook.run(name, profile)


@notebook_app.command()
def refresh(name: Name):
    """Execute a notebook with its smoke values and store the outputs."""
    _log()
    from rds_lib.pipeline import notebook

    notebook.refresh(name)


@notebook_app.command()
def tidy(name: Name):
    """Take everything that changes from run to run out of a stored notebook."""
    from rds_lib.pipeline import notebook

    notebook.store_tidy(name)


def _begin(profile, *, trains: bool = False, own_data: bool = True):
    """Load a profile for a command, and return it with the folder of its products."""
    _log()
    from rds_lib.core import paths
    from rds_lib.pipeline.params import load_params

    if own_data:
        paths.check_checkout()
    if not trains and ranks.world_size() > 1:
        raise RDSInputError("this command runs in one process; torchrun starts train, baselines, pretrain or stage")
    params = load_params(profile)
    fit_threads(params.model.config)
    if trains:
        from rds_lib.data.output import check_writable

        check_writable(paths.CACHE)
    return params, paths.products(params.profile)


@contextmanager
def _result(out: Path | None, folder: Path, stage: str) -> Iterator[Path]:
    """Yield the folder to write: the stage's own, which DVC keeps, or one that becomes ``out`` when it is whole."""
    from rds_lib.data.output import check_writable, output_folder
    from rds_lib.work.finished import sealed
    from rds_lib.work.locks import claim, sweep

    if out is None:
        check_writable(folder / stage)
        with claim(folder / stage), sealed(folder / stage):
            sweep(folder / stage, whole=True)
            yield folder / stage
        return
    with output_folder(out, overwrite=True, marker=stage) as place:
        yield place


def _log():
    is_first = ranks.is_first()  # under torchrun the others have errors to tell alone
    logging.basicConfig(level=logging.INFO if is_first else logging.ERROR, format="%(message)s")
