"""Print the README's tables of results from the products of `dvc repro`.

    python benchmarks/readme_tables.py [--profile mini]
"""

import argparse

from rds_lib import load_params, paths
from rds_lib.artifacts import read_table

ARMS = {
    "RDS": "**RDS, one training per budget**", "RDS, one for all": "RDS, one training for all budgets", "random routes": "random routes",
    "static top-n": "most important blocks, fixed", "own mean w": "RDS's own mean route, fixed",
    "plan A": "the supplement's static plan A", "plan B": "the supplement's static plan B",
    "best fixed route": "best of {n} random fixed routes", "oracle of fixed routes": "the best of these {n} for every clip"}
RIVALS = {
    "SAM2": "SAM2 (mini)", "SAM2 + I-LoRA": "SAM2 + I-LoRA", "random routes": "random routes",
    "static top-n": "most important blocks, fixed", "own mean w": "its own mean route, fixed",
    "plan A": "static plan A", "plan B": "static plan B",
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
        row(label.format(n=n), cells(table, [(method, budget) for budget in budgets], "{value:.1f} ({active_blocks:.1f})"))
    found = [speed.loc[f"RDS_{budget}"] for budget in budgets]
    row("speed on the benchmark's clip", [f"{each['speedup']:.2f} ({each['active_blocks']:.0f} blocks)" for each in found], "1.00")
    print("\n| RDS minus | " + " | ".join(map(str, budgets)) + " |\n" + "|---" * (len(budgets) + 1) + "|")
    for rival, label in RIVALS.items():
        found = cells(pairs, [(budget, rival) for budget in budgets], "{effect:+.1f} ({ci_low:+.1f} to {ci_high:+.1f})")
        print(f"| {label.format(n=n)} | " + " | ".join(found) + " |")


def cells(table, keys, form):
    """One text per row of a table; empty where it has no such row."""
    return [form.format(**table.loc[key]) if key in table.index else "" for key in keys]


if __name__ == "__main__":
    main()
