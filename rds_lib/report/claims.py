"""The paper's claims as tests: where each is made, what is measured on what, its bounds, and what it rests on.

`verdicts` has the four words and what they mean.
"""

import numpy as np

from rds_lib.core.errors import RDSInputError
from rds_lib.evaluation.names import (
    ADAPTED,
    ADAPTERS,
    DINO,
    DINO_RDS,
    ONE_FOR_ALL,
    OWN_MEAN,
    PLACES,
    PLANS,
    RANDOM,
    RDS,
    SAM2,
    TOP_N,
)
from rds_lib.report import basis
from rds_lib.report.evidence import (
    OFTEN,
    beyond_the_prefix,
    difference,
    extra_variation,
    frequency_against_importance,
    relative_loss,
    stable_core,
)
from rds_lib.report.headroom import parts_of_gain, possible_gain
from rds_lib.report.paper import paper_fps
from rds_lib.report.speeds import realisation, speed_at_equal_quality, speed_ratio
from rds_lib.report.verdicts import Claim

POINTS = "J&F points"
FASTER, OF_PAPERS = "times as fast", "times the paper's ratio"
SEEDS = "More seeds and more clips."
BASE = "More seeds, more clips, another base."
REAL = "More seeds, more clips, another base; the paper's model and data (profile paper)."
MACHINE = "More timed frames and runs; the paper's GPUs (profile paper)."
PAPER_FPS = {float(level): fps for level, fps in paper_fps(RDS).items()}
PAPER_SAM2_FPS = paper_fps(SAM2)["1"]


def the_claims(level: float = 0.4, middle: float = 0.6) -> list[Claim]:
    """The ledger. ``level`` is the budget at which the paper compares with static models of 24 blocks."""
    if not {level, middle} <= PAPER_FPS.keys():
        raise RDSInputError(f"levels {level} and {middle}; choose among the paper's {sorted(PAPER_FPS)}")
    return [
        *_headline(middle),
        *_quality(level, middle),
        _headroom(),
        *_rivals(level),
        *_routes(level),
        *_adapters(middle),
        *(_speed(each) for each in sorted({0.8, middle, level}, reverse=True)),
        *_second_backbone(middle),
        _one_for_all(middle),
    ]


def _beats(key, claim, source, rival, at, settles, test="RDS minus {rival}, at {at}", *rests_on) -> Claim:
    """RDS's J&F is above a rival's at one level."""
    test, measure = test.format(rival=rival, at=at), difference(RDS, at, rival)
    told = basis.together(*rests_on, basis.trainings(RDS, at, rival))
    return Claim(key, claim, source, test, POINTS, measure, settles=settles, rests_on=told)


def _headline(middle):
    claim, source = f"RDS is 1.3 times as fast as SAM2 (its budget {middle})", "abstract"
    test = f"speed of RDS {middle} over SAM2's, at least 1.25, which rounds to 1.3"
    measure, told = speed_ratio(RDS, middle), basis.timed_frames
    yield Claim("headline, speed", claim, source, test, FASTER, measure, 1.25, settles=MACHINE, rests_on=told)
    claim, test = (
        "RDS loses less than 1 % of J&F at that speed",
        f"J&F that RDS {middle} loses, in % of SAM2's, below 1",
    )
    measure, told = relative_loss(RDS, middle, SAM2, 1.0), basis.trainings(RDS, middle, SAM2, 1.0)
    yield Claim("headline, loss", claim, source, test, "%", measure, -np.inf, 1.0, settles=REAL, rests_on=told)


def _quality(level, middle):
    claim, source = f"RDS at {middle} stays close to SAM2 (89.6 against 90.0)", "Table 9"
    close, test = difference(RDS, middle, SAM2, 1.0), f"RDS {middle} minus SAM2, at most 2 points lost (our bound)"
    told = basis.trainings(RDS, middle, SAM2, 1.0)
    yield Claim("quality", claim, source, test, POINTS, close, -2.0, settles=REAL, rests_on=told)
    for plan in PLANS.values():
        yield _beats(plan, f"RDS beats static {plan}", "C.2, Figure 12", plan, level, REAL)
    test = "RDS minus as many of the most important blocks, at {at}"
    yield _beats("static", "RDS beats the most important blocks as a static plan", "ours", TOP_N, level, BASE, test)
    test = "RDS minus random routes of its size, at {at}"
    yield _beats("random", "the router's choice beats chance", "ours", RANDOM, level, BASE, test)
    test = "RDS minus its own mean route as a fixed plan, at {at}"
    yield _beats("frames", "quality comes from routes that follow the frame", "C.2, D.2", OWN_MEAN, level, REAL, test)


def _headroom():
    claim = "a router that follows the frame can beat the best static plan on this model"
    test = "best of random routes a frame minus the best fixed one of them, both chosen on other data than scored"
    settles = "More clips; another base, and videos in which frames differ."
    return Claim("headroom", claim, "ours", test, "IoU points", possible_gain, settles=settles, rests_on=parts_of_gain)


def _rivals(level):
    source, plain = "Table 9", "RDS minus {rival}, at {at}"
    told = basis.work((RDS, level), ("PBD", level))
    yield _beats("pbd", "RDS beats block dropping with fine-tuning", source, "PBD", level, REAL, plain, told)
    claim, test, slim = (
        "RDS beats channel pruning of similar work",
        f"RDS {level} minus SlimSAM 6/9",
        ("SlimSAM", 0.667),
    )
    told = basis.together(basis.work((RDS, level), slim), basis.trainings(RDS, level, *slim))
    yield Claim("slimsam", claim, source, test, POINTS, difference(RDS, level, *slim), settles=REAL, rests_on=told)
    test = "speed of RDS's fastest budget that is as good, over the rival's; mean over levels that some budget equals"
    for rival in ("DyT", "AdaViT"):
        claim, measure = f"RDS is faster than {rival} at equal quality", speed_at_equal_quality(rival)
        told = basis.together(basis.equal_levels(rival), basis.averaged(RDS, rival))
        yield Claim(rival.lower(), claim, source, test, FASTER, measure, 1.0, settles=REAL, rests_on=told)
    yield from _dense(level)
    claim = "static plans vary more over sequences than RDS"
    test = f"standard deviation of the loss against SAM2, plans A and B minus RDS, at {level}"
    measure, told = extra_variation(PLANS.values(), level), basis.averaged(RDS)
    yield Claim("variation", claim, "Figure 12", test, POINTS, measure, settles=REAL, rests_on=told)


def _dense(level):
    theirs, rival = paper_fps("AdaViT")[f"{level:g}"], ("AdaViT", level)
    claim = "a router before every block costs more time than skipping saves"
    test = (
        f"speed of AdaViT {level} over SAM2's, below 1 (the paper: {theirs} against {PAPER_SAM2_FPS} frames a second)"
    )
    told = basis.together(basis.blocks_left(rival), basis.timed_frames)
    yield Claim("dense", claim, "Table 9", test, FASTER, speed_ratio(*rival), 0.0, 1.0, settles=MACHINE, rests_on=told)
    claim = "RDS turns more of the skipped blocks' time into speed than a router before every block"
    test = f"share of the skipped blocks' time that is saved, RDS minus AdaViT, at {level}"
    told = basis.together(basis.blocks_left((RDS, level), rival), basis.timed_frames)
    yield Claim("overhead", claim, "ours", test, "share", realisation(*rival), settles=MACHINE, rests_on=told)


def _routes(level):
    claim = "the blocks that run are no contiguous prefix"
    test = f"blocks that mostly run after one that mostly does not, at {level}"
    told = basis.always("a weak test: random routes pass it too")
    yield Claim("prefix", claim, "B.1", test, "blocks", beyond_the_prefix(level), settles=SEEDS, rests_on=told)
    claim = "a stable core stays active as the budget falls"
    test = f"share of the lowest budget's core (on {OFTEN:.0%} of the frames) that is core at higher ones, minus chance"
    told = basis.always("one training a budget, from the same seed and clips")
    yield Claim("core", claim, "B.1, Figure 10", test, "share", stable_core, settles=SEEDS, rests_on=told)
    claim = "how often a block runs and how important it is are related, but not the same"
    test = "Spearman correlation above 0 and below 0.95"
    told = basis.always("the noise of the importance scores is not in the interval")
    measure = frequency_against_importance
    yield Claim("frequency", claim, "B.1", test, "correlation", measure, below=0.95, settles=SEEDS, rests_on=told)


def _adapters(middle):
    for kind, label in ADAPTERS.items():
        if kind != "none":
            claim = f"I-LoRA beats as many parameters {PLACES[kind]}"
            yield _beats(f"placement, {kind}", claim, "B.2", label, middle, REAL)
    yield _beats("adapters", "the adapters are needed at all", "B.2", ADAPTERS["none"], middle, BASE)
    claim = "fine-tuning alone gains on this data (rows of Table 9 above 90.0)"
    test, arms = "SAM2 + I-LoRA at full depth minus SAM2", (ADAPTED, 1.0, SAM2)
    told = basis.trainings(*arms)
    yield Claim("fine-tuning", claim, "ours", test, POINTS, difference(*arms), settles=BASE, rests_on=told)


def _speed(level):
    theirs = PAPER_FPS[level] / PAPER_SAM2_FPS
    claim, test = f"RDS {level} is {theirs:.2f} times as fast as SAM2", "our ratio over the paper's, at least 0.95"
    measure, told = speed_ratio(RDS, level, divided_by=theirs), basis.timed_frames
    return Claim(f"speed {level}", claim, "Table 9", test, OF_PAPERS, measure, 0.95, settles=MACHINE, rests_on=told)


def _second_backbone(middle):
    source, told = "Table 8, A.3", basis.trainings(DINO_RDS, middle, DINO, 1.0)
    claim, test = "RDS keeps DINOv3's J&F", f"{DINO_RDS} {middle} minus {DINO}, at most 1 point lost (our bound)"
    measure = difference(DINO_RDS, middle, DINO, 1.0)
    yield Claim("Table 8, quality", claim, source, test, POINTS, measure, -1.0, settles=REAL, rests_on=told)
    claim, test = "RDS makes DINOv3 faster", f"speed of {DINO_RDS} {middle} over {DINO}'s"
    measure, told = speed_ratio(DINO_RDS, middle, over=DINO), basis.timed_frames
    yield Claim("Table 8, speed", claim, source, test, FASTER, measure, 1.0, settles=MACHINE, rests_on=told)


def _one_for_all(middle):
    claim, test = "one router per budget beats one router for all", "RDS minus one training for all budgets, at {at}"
    return _beats("one for all", claim, "ours", ONE_FOR_ALL, middle, BASE, test)
