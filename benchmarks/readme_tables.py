"""Print the README's tables of results from the products of `dvc repro`.

    python benchmarks/readme_tables.py [--profile mini]
"""

import argparse

import pandas as pd

from rds_lib import load_params, paths
from rds_lib.artifacts import read_table
from rds_lib.baselines.products import LABELS
from rds_lib.comparison import ADAPTERS
from rds_lib.table9 import level_name

CONTROLS = {
    "RDS": "**RDS, one training per budget**", "RDS, one for all": "RDS, one training for all budgets", "random routes": "random routes",
    "static top-n": "most important blocks, fixed", "own mean w": "RDS's own mean route, fixed",
    "random static plans": "random fixed routes, mean of {n}", "plan A": "the supplement's static plan A", "plan B": "the supplement's static plan B"}
RIVALS = {
    "SAM2": "SAM2 (mini)", "SAM2 + I-LoRA": "SAM2 + I-LoRA", "mini_half": "the model of half the depth", "PBD": "PBD", "DyT": "DyT", "AdaViT": "AdaViT",
    "random routes": "random routes", "static top-n": "most important blocks, fixed", "own mean w": "its own mean route, fixed",
    "random static plans": "random fixed routes, mean of {n}", "plan A": "static plan A", "plan B": "static plan B",
    "RDS, one for all": "one training for all budgets", **{label: label for label in ADAPTERS.values()}}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="mini")
    options = parser.parse_args()
    params, folder = load_params(options.profile), paths.workdir(options.profile)
    budgets, n = params.evaluation.budgets, params.evaluation.fixed_routes
    table = read_table(folder / "evaluation" / "table.csv").query("dataset == 'generated-davis'").set_index(["method", "level"])
    pairs = read_table(folder / "evaluation" / "comparisons.csv").query("dataset == 'generated-davis'").set_index(["level", "against"])
    speed = read_table(folder / "benchmark" / "table.csv").set_index("arm")

    print("| method | level | J&F | active blocks | GMACs | encoder, ms | frames a second |\n|---|---|---|---|---|---|---|")
    methods = ["SAM2", "SAM2 + I-LoRA", *(config for config, _ in params.evaluation.smaller), *LABELS.values(), "RDS"]
    for method, level in [key for name in methods for key in table.index if key[0] == name]:
        row = table.loc[(method, level)]
        timed = next((speed.loc[arm] for arm in (f"{method}_{level}", method, "full") if arm in speed.index), None)
        numbers = f"{row['value']:.1f} | {row['active_blocks']:.1f} | {row['gmacs']:.2f} | {timed['encoder_ms']:.1f} | {timed['fps']:.1f}"
        print(f"| {method} | {'' if level == 1 else level_name(method, level)} | {numbers} |")
    print("\n| J&F (active blocks) | " + " | ".join(map(str, budgets)) + " |\n" + "|---" * (len(budgets) + 1) + "|")
    for method, label in CONTROLS.items():
        print(f"| {label.format(n=n)} | " + " | ".join(cells(table, [(method, budget) for budget in budgets], "{value:.1f} ({active_blocks:.1f})")) + " |")
    print("\n| RDS minus | " + " | ".join(map(str, budgets)) + " |\n" + "|---" * (len(budgets) + 1) + "|")
    for rival, label in RIVALS.items():
        found = cells(pairs, [(budget, rival) for budget in budgets], "{effect:+.1f} ({ci_low:+.1f} to {ci_high:+.1f})")
        print(f"| {label.format(n=n)} | " + " | ".join(found) + " |")


def cells(table: pd.DataFrame, keys, form: str) -> list[str]:
    """One text per row of a table; empty where it has no such row."""
    return [form.format(**table.loc[key]) if key in table.index else "" for key in keys]


if __name__ == "__main__":
    main()
