"""Names of the arms in tables and figures. Nothing here needs a model, so that pages can be made from tables alone."""

SAM2, FULL, RDS = "SAM2", "full", "RDS"  # FULL: the benchmark's RDS predictor with every block on, beside stock SAM2
ADAPTED = "SAM2 + I-LoRA"  # every block on, adapters trained without a router
ONE_FOR_ALL = "RDS, one for all"  # one router for all budgets
VOS = "SAM2, vos_optimized"  # SAM2's own predictor, compiled as it compiles itself
EAGER = "eager"
ENGINES = (EAGER, "cast", "compiled", "graphs")  # of our predictor, as build_rds_video_predictor has them
OF_GPUS = ("graphs",)  # engines that no CPU has
STILL = "copy first mask"
PLACES = {  # where adapters go instead of I-LoRA's blocks, by the placement's name in methods.placement
    "all": "on all blocks",
    "random": "on random blocks",
    "active": "on the most active blocks",
    "none": "nowhere",
}
ADAPTERS = {kind: f"RDS, adapters {place}" for kind, place in PLACES.items()}
DINO, DINO_RDS, DINO_ADAPTED = "DINOv3", "DINOv3 + RDS", "DINOv3 + I-LoRA"  # the second backbone
PLANS = {"A": "plan A", "B": "plan B"}  # the supplement's static plans
RANDOM, TOP_N, OWN_MEAN = "random routes", "static top-n", "own mean w"  # controls; see `controls`


def run_name(method: str, level: float, join: str = " ") -> str:
    """Method and level in one text, ``RDS 0.6``; a whole model, whose level is 1, goes by its name alone.

    For people and for file names. Code that looks for an arm compares method and level.
    """
    return method if level == 1 else f"{method}{join}{level:g}"
