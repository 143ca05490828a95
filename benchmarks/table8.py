"""Table 8 on a profile's generated clips and on a DAVIS-layout folder, with RDS trained from several seeds.

    python benchmarks/table8.py DAVIS_ROOT OUT [--split val] [--profile mini] [--seeds 1 2]

Runs stage `dinov3` of the profile with these seeds beside its own and with the folder's split as one more data set, and
writes its products and ``table8.md`` to OUT. Trainings that `.cache` has are not made again. Time nothing beside it.
"""

import argparse
import tempfile
from pathlib import Path

from rds_lib import load_params
from rds_lib.core import paths
from rds_lib.core.artifacts import copy_file, read_json, read_table, write_text
from rds_lib.pipeline import dinov3
from rds_lib.report import table8


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--profile", default="mini")
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2], help="beside the profile's own")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        params = load_params(options.profile).with_section("dinov3", more_seeds=options.seeds)
        params = params.with_section("data", davis_root=str(as_val(options.root.resolve(), options.split, folder)))
        dinov3.run(params, paths.workdir(options.profile), options.out)
    tables = {name: read_table(options.out / f"{name}.csv") for name in ("table", "comparisons", "speed")}
    about = {"profile": options.profile, "depth": read_json(options.out / "encoder.json")["depth"]}
    page = table8.as_page(table8.measured_rows(tables["table"], tables["speed"]), tables["comparisons"], **about)
    write_text(options.out / "table8.md", page)
    print(page)


def as_val(root: Path, split: str, folder: str) -> Path:
    """The data set ``root`` in ``folder``, its videos linked, with ``split`` in the place of its validation list."""
    found = Path(folder) / "DAVIS"
    (found / "ImageSets" / "2017").mkdir(parents=True)
    for name in ("JPEGImages", "Annotations"):
        (found / name).symlink_to(root / name)
    copy_file(root / "ImageSets" / "2017" / f"{split}.txt", found / "ImageSets" / "2017" / "val.txt")
    return found


if __name__ == "__main__":
    main()
