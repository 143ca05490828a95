"""How often the 95 % intervals of `rds_lib.metrics.statistics` hold the truth, on made-up clips where it is known.

    python benchmarks/coverage.py [--repeats 2000] [--resamples 1000]

Clips hold one to three objects. Shapes: "even", differences are normal; "skewed", most clips differ by noise of 3
points and one in six loses an object, which costs 8 points more on average, much as in our own differences; "very
skewed", the same with half the noise. The second table adds trainings: each moves all clips together by 1.5 points and
every clip by 4 (standard deviations), beside 6 between clips. Seeds are fixed, so every run prints the same.
"""

import argparse

import numpy as np
import pandas as pd

from rds_lib.metrics.statistics import bootstrap_ci, mean_interval

CLIPS = (18, 60)
NOISE = {"even": 3.0, "skewed": 3.0, "very skewed": 1.5}  # standard deviation by shape, points
LOST, COST = 1 / 6, 8.0  # share of the clips that lose an object, and what that costs, points
OF_CLIPS, OF_TRAININGS, OF_BOTH = 6.0, 1.5, 4.0  # standard deviations, points


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    tables = (
        pd.DataFrame([row(kind, clips, options) for kind in NOISE for clips in CLIPS]),
        pd.DataFrame([row_of_trainings(number, clips, options) for number in (3, 5) for clips in CLIPS]),
    )
    for table in tables:
        print(table.to_string(index=False), end="\n\n")


def row(kind, clips, options):
    """Coverage in % of the percentile bootstrap and of ours, and how much wider ours is."""
    rng, found = np.random.default_rng([clips, len(kind)]), []
    for seed in range(options.repeats):
        gaps, truth = draw(kind, clips, rng)
        groups = np.repeat(np.arange(clips), rng.integers(1, 4, clips))
        settings = {"seed": seed, "n": options.resamples, "groups": groups}
        found.append(judged(truth, bootstrap_ci(gaps[groups], **settings), mean_interval(gaps[groups], **settings)[1:]))
    return {"clips": clips, "shape": kind} | summary(found, ("percentile", "ours"))


def draw(kind, clips, rng):
    """A difference for every clip, and the mean over all clips there could be."""
    noise = rng.normal(scale=NOISE[kind], size=clips)
    if kind == "even":
        return noise, 0.0
    return noise - (rng.random(clips) < LOST) * rng.exponential(COST, clips), -LOST * COST


def row_of_trainings(number, clips, options):
    """The same with several trainings: their mean resampled over clips alone, and over both."""
    rng, found = np.random.default_rng([clips, number]), []
    for seed in range(options.repeats):
        parts = (OF_CLIPS, (clips, 1)), (OF_TRAININGS, (1, number)), (OF_BOTH, (clips, number))
        gaps = sum(rng.normal(scale=sd, size=size) for sd, size in parts)
        settings = {"seed": seed, "n": options.resamples}
        found.append(judged(0.0, mean_interval(gaps.mean(1), **settings)[1:], mean_interval(gaps, **settings)[1:]))
    return {"clips": clips, "trainings": number} | summary(found, ("over clips", "over clips and trainings"))


def judged(truth, *intervals):
    """For every interval whether it holds the truth, and its width."""
    return [(low <= truth <= high, high - low) for low, high in intervals]


def summary(found, names):
    """Coverage in % by name, and the median ratio of the widths."""
    found = np.array(found, dtype=float)  # (repeats, intervals, 2)
    shares = dict(zip(names, (100 * found[..., 0].mean(0)).round(1)))
    return shares | {"times as wide": float(np.median(found[:, 1, 1] / found[:, 0, 1]).round(2))}


if __name__ == "__main__":
    main()
