"""Ways of teaching the router, one by one and with several seeds, on calibration data: which of them help.

    python benchmarks/levers.py CLIPS OUT [--only plain prior] [--seeds 3] [--budget 0.4] [--steps 80] [--config mini]
        [--checkpoint F]

CLIPS is a folder that `python -m rds_lib data generate` wrote; its validation sets are not looked at. Every trial
trains a router with its adapters on the clips of ``train``, calibrates its threshold, and tracks those of
``calibration`` by its own routes, by the one plan of its mean keep probabilities, and by the most important blocks, all
under its own adapters. OUT gets ``objects.csv``, ``routes.csv`` and, of all trials so far, ``levers.md``; a trial that
is in them is not done again.
"""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from rds_lib.core import paths
from rds_lib.core.artifacts import read_table, write_table, write_text
from rds_lib.data.batches import SequenceBatches
from rds_lib.data.datasets import read_dataset
from rds_lib.data.sources import Source
from rds_lib.dinov3.backbone import MINI_DINOV3
from rds_lib.evaluation.arm import Arm
from rds_lib.evaluation.controls import CONTROLS
from rds_lib.evaluation.evaluate import evaluate_arms
from rds_lib.evaluation.names import DINO, OWN_MEAN, RDS, SAM2, TOP_N
from rds_lib.metrics.statistics import difference
from rds_lib.model.sam2 import SHIPPED
from rds_lib.pipeline.chosen_model import is_dino, predictor_of
from rds_lib.pipeline.fingerprint import code_digest, file_digest
from rds_lib.pipeline.headroom import open_tracker
from rds_lib.report.markdown import table
from rds_lib.routing.algorithm1 import target_active
from rds_lib.routing.calibration import calibrate
from rds_lib.routing.importance import measure_importance, rank_blocks
from rds_lib.routing.route_table import clip_deviations
from rds_lib.training.loop import Schedule
from rds_lib.training.rds import Recipe, train_rds

CALIBRATED_ON = 6  # frames of every clip
CONTROLS_HERE = (OWN_MEAN, TOP_N)


def variants(prior: tuple[float, ...]) -> dict[str, tuple[Recipe, dict]]:
    """Recipes and options of the router, by name; ``prior`` rises with a block's importance, mean 0, deviation 1."""
    half = tuple(value / 2 for value in prior)
    return {
        "plain": (Recipe(), {}),
        "prior": (Recipe(prior=prior), {}),
        "sharper": (Recipe(final_spread=4.0), {}),
        "deployed": (Recipe(deployed_share=0.34), {}),
        "damage": (Recipe(damage=0.3), {}),
        "prior, sharper, deployed": (Recipe(prior, 4.0, 0.34), {}),
        "all": (Recipe(prior, 4.0, 0.34, 0.3), {}),
        "alone": (Recipe(half, 4.0, 1.0, alone=150), {}),
        "paper's sigmoid": (Recipe(), {"normalise": False}),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="+", help="names of variants; by default all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=0.4)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--config", default="mini", help="mini, or dinov3-mini")
    parser.add_argument("--checkpoint", type=Path, help="by default the shipped one")
    options = parser.parse_args()
    train = read_dataset(options.clips / "train", layout="davis2017", split="train")
    ranking = importance(train, options)
    rank = -ranking[["global_score", "local_score"]].rank(ascending=False).sum(axis=1)
    rank[ranking["always_on"]] = rank[~ranking["always_on"]].mean()
    every = variants(tuple(((rank - rank.mean()) / rank.std(ddof=0)).tolist()))
    for seed in range(options.seeds):  # so that a run that is cut short compares all variants on few seeds
        for name in options.only or every:
            trial(name, seed, every[name], options, train, ranking)
            write_text(options.out / "levers.md", summary(options.out))


def importance(train, options) -> pd.DataFrame:
    """The importance of every block on training clips, measured once for a model and set of clips."""
    file = paths.CACHE / "levers" / f"importance-{model_digest(options).hex()}-{len(train)}.csv"
    if not file.is_file():
        model = open_tracker(options.config, options.checkpoint)
        asked = {"seed": 0, "batch": 8, "frames": 8, "first_step": 0, "steps": 1}
        batches = SequenceBatches(train, size=model.backbone.image_size, **asked)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_table(file, measure_importance(model, [batches[0]]))
    return read_table(file)


def model_digest(options) -> bytes:
    """A short digest of the weights of the model."""
    weights = options.checkpoint or (MINI_DINOV3 if is_dino(options.config) else SHIPPED["mini"])
    return file_digest(weights / "model.safetensors" if weights.is_dir() else weights)[-4:]


def predictor(options, weights=None, **routing):
    """The model, with the router of ``weights`` if there is one."""
    asked = {"budget": None, "tau": None, "routing": "full", "device": None, "apply_postprocessing": False}
    return predictor_of(options.config, options.checkpoint, weights, **asked | routing)


def trial(name, seed, variant, options, train, ranking):
    """Train, calibrate and score one variant with one seed, and add its rows to both tables."""
    key = {"variant": name, "budget": options.budget, "seed": seed, "steps": options.steps}
    objects, routes = options.out / "objects.csv", options.out / "routes.csv"
    known = read_table(routes) if routes.is_file() else pd.DataFrame(columns=[*key])
    if len(known.merge(pd.DataFrame([key]), on=[*key])):
        return
    build = partial(trained, name, seed, variant, options, train, ranking)
    arms = [Arm(whole_model(options), 1.0, partial(predictor, options))]
    arms = arms if seed == 0 and not len(known) else []
    arms += [Arm(RDS, options.budget, build, kind="learned")]
    arms += [Arm(one, options.budget, build, kind="forced", route=CONTROLS[one]) for one in CONTROLS_HERE]
    source = Source("calibration", options.clips / "calibration", "davis2017", "calibration")
    found = evaluate_arms(arms, [source], keep=options.out / ".kept", ranking=ranking)["calibration"]
    rows = [scores.objects.assign(method=method, level=level, **key) for (method, level), scores in found.items()]
    add(objects, pd.concat(rows)[[*key, "method", "level", "sequence", "object", "JF"]].round(6))
    own = found[RDS, options.budget]
    within, between = clip_deviations(own.routes)
    add(routes, pd.DataFrame([key | {"active": own.active_routed, "within": within, "between": between}]).round(5))


def trained(name, seed, variant, options, train, ranking):
    """The predictor of one trial, calibrated."""
    recipe, router_options = variant
    model = open_tracker(options.config, options.checkpoint)
    always_on, depth = model.backbone.always_on, model.backbone.depth
    blocks = rank_blocks(ranking["global_score"], ranking["local_score"], always_on, depth // 2)
    made_of = (code_digest(paths.ROOT / "rds_lib/training"), model_digest(options))
    mark = "-".join([name, str(seed), f"{options.budget:g}", str(options.steps), *(part[:4].hex() for part in made_of)])
    folder = paths.CACHE / "levers" / mark.replace(" ", "_")
    weights = train_rds(
        model,
        sequences=train,
        blocks=blocks,
        budgets=(options.budget,),
        schedule=Schedule(options.steps, 2, 6, seed),
        out=folder / "rds.safetensors",
        workdir=folder,
        lr_router=1e-3,
        lr_lora=1e-3,
        lora_rank=8,
        preference_rate=30.0,
        router_options={"hidden": 64} | router_options,
        recipe=recipe,
        config_file=DINO if is_dino(options.config) else options.config,
    )
    found = predictor(options, weights, budget=options.budget, tau=0.5, routing="threshold")
    goal = target_active(options.budget, depth, always_on)
    clips = read_dataset(options.clips / "calibration", layout="davis2017", split="calibration")
    calibrate(found, clips, target_active=goal, frames=CALIBRATED_ON)
    return found


def whole_model(options) -> str:
    """The name of the arm without a router."""
    return DINO if is_dino(options.config) else SAM2


def add(file: Path, rows: pd.DataFrame) -> None:
    """Add rows to a table, which is written whole."""
    write_table(file, pd.concat([read_table(file), rows]) if file.is_file() else rows)


def summary(out: Path) -> str:
    """Every variant's J&F, and RDS minus the whole model, its own mean route and the most important blocks."""
    objects, routes, lines = read_table(out / "objects.csv"), read_table(out / "routes.csv"), []
    is_whole = objects["method"].isin((SAM2, DINO))
    whole, name_of_whole = objects[is_whole].drop(columns="seed"), objects.loc[is_whole, "method"].iloc[0]
    for (name, budget, steps), rows in objects[~is_whole].groupby(["variant", "budget", "steps"]):
        both, own = pd.concat([rows, whole]), routes[(routes["variant"] == name) & (routes["budget"] == budget)]
        own = own[own["steps"] == steps][["active", "within", "between"]].mean()
        gaps = [difference(both, (RDS, budget), other, seed=0) for other in against(name_of_whole, budget)]
        score = 100 * rows.loc[rows["method"] == RDS, "JF"].mean()
        gaps += [minus_plain(rows, objects, name, budget)]
        cells = ["" if gap is None else f"{gap.effect:+.2f} ({gap.low:+.2f} to {gap.high:+.2f})" for gap in gaps]
        numbers = [f"{own['active']:.1f}", f"{own['within']:.3f}", f"{own['between']:.3f}"]
        lines.append([name, f"{budget:g}", steps, rows["seed"].nunique(), f"{score:.2f}", *cells, *numbers])
    heads = ["variant", "budget", "steps", "seeds", "J&F", "minus " + name_of_whole, "minus own mean route"]
    heads += ["minus most important blocks", "minus plain", "blocks", "w within clips", "between"]
    return table(heads, lines) + "\n"


def minus_plain(rows, objects, name, budget):
    """RDS taught one way minus RDS taught plainly, with the same budget and steps; None if there is none."""
    plain = objects[(objects["variant"] == "plain") & (objects["budget"] == budget)]
    plain = plain[plain["steps"].isin(rows["steps"])]
    if name == "plain" or not len(plain):
        return None
    both = pd.concat([one[one["method"] == RDS].assign(method=way) for one, way in ((rows, name), (plain, "plain"))])
    return difference(both, (name, budget), ("plain", budget), seed=0)


def against(whole: str, budget: float) -> list[tuple[str, float]]:
    """What RDS is compared with."""
    return [(whole, 1.0), *((one, budget) for one in CONTROLS_HERE)]


if __name__ == "__main__":
    main()
