"""Mean IoU of the mini SAM2 on clips it was never trained on, for each kind of prompt: the scores of its model card.

    python benchmarks/held_out.py [--weights FILE] [--bsds BSDS500_ROOT] [--clips 50] [--frames 8]
"""

import argparse
from pathlib import Path

from rds_lib.pretrain import held_out_iou
from rds_lib.sam2_models import build_model

SEED = 99


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="by default the shipped ones")
    parser.add_argument("--bsds", default="", help="adds clips with objects cut from BSDS500's val")
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args()
    model = build_model("mini", options.weights).eval()
    for kind in ("mask", "box", "point"):
        for label, root in (("generated", ""), ("with BSDS500", options.bsds)):
            if root or label == "generated":
                iou = held_out_iou(model, seed=SEED, clips=options.clips, frames=options.frames, bsds_root=root, kind=kind)
                print(f"{kind}, {label} clips: IoU {iou:.3f} on frames 2 to {options.frames} of {options.clips} clips", flush=True)


if __name__ == "__main__":
    main()
