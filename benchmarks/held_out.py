"""Mean IoU of the mini SAM2 on clips it was never trained on, for each kind of prompt: the scores of its model card.

python benchmarks/held_out.py [--weights FILE] [--bsds BSDS500_ROOT] [--davis FOLDER] [--clips 50] [--frames 8]
"""

import argparse
from pathlib import Path

from rds_lib.model.sam2 import build_model
from rds_lib.pipeline.pretrain import score_held_out

SEED = 99


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="by default the shipped ones")
    parser.add_argument("--bsds", default="", help="adds clips with objects cut from half of BSDS500's val")
    parser.add_argument("--davis", default="", help="adds the videos held out of the training list of a set like DAVIS")
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args()
    model = build_model("mini", options.weights).eval()
    roots = {"bsds_root": options.bsds, "davis_root": options.davis}
    scores = score_held_out(model, seed=SEED, clips=options.clips, frames=options.frames, **roots)
    print(scores.to_string(index=False))


if __name__ == "__main__":
    main()
