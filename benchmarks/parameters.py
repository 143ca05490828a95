"""Count the trainable parameters of the router and of I-LoRA on SAM2.1 Hiera-L; the paper's abstract has 6.7 M, 3 %.

python benchmarks/parameters.py [--rank 16]
"""

import argparse

from rds_lib.model.adapters import add_lora, lora_state_dict
from rds_lib.model.backbone import backbone_of
from rds_lib.model.sam2 import build_model
from rds_lib.routing.router import PredictionAwareRouter

PAPER_BLOCKS = (0, 2, 4, 5, 8, 10, *range(12, 18), 20, 21, *range(23, 28), *range(43, 48))  # supplement, section B.2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rank", type=int, default=16)
    rank = parser.parse_args().rank
    model = build_model("configs/sam2.1/sam2.1_hiera_l.yaml", False)
    total = sum(p.numel() for p in model.parameters())
    router = PredictionAwareRouter.for_backbone(backbone_of(model))
    adapters = sum(t.numel() for t in lora_state_dict(add_lora(model, PAPER_BLOCKS, rank=rank)).values())
    routing = sum(p.numel() for p in router.parameters())
    print(
        f"SAM2.1 Hiera-L {total / 1e6:.2f} M; router {routing / 1e6:.2f} M; "
        f"I-LoRA on {len(PAPER_BLOCKS)} blocks at rank {rank} "
        f"{adapters / 1e6:.2f} M; together {(routing + adapters) / 1e6:.2f} M, "
        f"{100 * (routing + adapters) / total:.1f} %"
    )


if __name__ == "__main__":
    main()
