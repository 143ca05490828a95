"""Print the README's tables of results from the products of `dvc repro`.

    python benchmarks/readme_tables.py [--profile mini]
"""

import argparse

from rds_lib import load_params, paths
from rds_lib.artifacts import read_table

ARMS = {
    "RDS": "**RDS, one training per budget**", "RDS, one for all": "RDS, one training for all budgets", "random routes": "random routes",
    "static top-n": "most important blocks, fixed", "own mean w": "RDS's own mean route, fixed",
    "best fixed route": "best of {n} random fixed routes", "oracle of fixed routes": "the best of these {n} for every clip"}
RIVALS = {
    "SAM2": "SAM2 (mini)", "SAM2 + I-LoRA": "SAM2 + I-LoRA", "random routes": "random routes",
    "static top-n": "most important blocks, fixed", "own mean w": "its own mean route, fixed",
    "RDS, one for all": "one training for all budgets", "best fixed route": "best of {n} fixed routes",
    "oracle of fixed routes": "the best of {n} per clip"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="mini")
    options = parser.parse_args()
    params, folder = load_params(options.profile), paths.workdir(options.profile)
    budgets, n = params.evaluation.budgets, params.evaluation.fixed_routes
    table = read_table(folder / "evaluation" / "table.csv").query("dataset == 'generated-davis'").set_index(["method", "level"])
    pairs = read_table(folder / "evaluation" / "comparisons.csv").query("dataset == 'generated-davis'").set_index(["level", "against"])
    speed = read_table(folder / "benchmark" / "table.csv").set_index("arm")

    def row(label, cells, full=""):
        print(f"| {label} | {full} | " + " | ".join(cells) + " |")

    row("J&F (active blocks)", [f"budget {budgets[0]}", *map(str, budgets[1:])], "all 48 blocks")
    print("|---" * (len(budgets) + 2) + "|")
    for method, level, label in (("copy first mask", 0.0, "copy the first mask"), ("SAM2", 1.0, "SAM2 (mini)"),
                                 ("SAM2 + I-LoRA", 1.0, "SAM2 (mini) + I-LoRA")):
        row(label, [""] * len(budgets), f"{table.loc[(method, level), 'value']:.1f}")
    for method, label in ARMS.items():
        found = [table.loc[(method, budget)] for budget in budgets]
        row(label.format(n=n), [f"{each['value']:.1f} ({each['active_blocks']:.1f})" for each in found])
    found = [speed.loc[f"RDS_{budget}"] for budget in budgets]
    row("speed on the benchmark's clip", [f"{each['speedup']:.2f} ({each['active_blocks']:.0f} blocks)" for each in found], "1.00")
    print("\n| RDS minus | " + " | ".join(map(str, budgets)) + " |\n" + "|---" * (len(budgets) + 1) + "|")
    for rival, label in RIVALS.items():
        found = [pairs.loc[(budget, rival)] for budget in budgets]
        print(f"| {label.format(n=n)} | " + " | ".join(
            f"{each['effect']:+.1f} ({each['ci_low']:+.1f} to {each['ci_high']:+.1f})" for each in found) + " |")


if __name__ == "__main__":
    main()
