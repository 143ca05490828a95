"""Speeds that others published for SAM2 and for what is built on it. Theirs, on their machines; none was run here."""

from typing import NamedTuple

BEFORE = "facebookresearch/sam2, README.md at c2ec8e1"
NOW = "facebookresearch/sam2, README.md at 2b90b9f"
EDGETAM = "facebookresearch/EdgeTAM, README.md"
EFFICIENTTAM = "yformer/EfficientTAM, figs/examples/speed_vs_latency_update.png, read off the figure; arXiv 2411.18933"
EFFICIENT_SAM2 = "jingjing0419/Efficient-SAM2, README.md and assets/speedup_cmp_h_01.png, read off it; arXiv 2602.08224"


class Published(NamedTuple):
    """One published speed, as its source gives it; "" where it does not say."""

    model: str
    mode: str
    machine: str
    fps: str
    over_large: str  # times SAM2.1-L of the same source
    quality: str  # J&F
    source: str


PUBLISHED = (
    Published("SAM2.1-L", "eager", "A100", "24.2", "1", "SA-V test 79.5", BEFORE),
    Published("SAM2.1-L", "image encoder compiled", "A100", "30.2", "1", "SA-V test 79.5", BEFORE),
    Published("SAM2.1-L", "vos_optimized", "A100", "39.5", "1", "SA-V test 79.5", NOW),
    Published("SAM2.1-B+", "vos_optimized", "A100", "64.1", "1.62", "SA-V test 78.2", NOW),
    Published("SAM2.1-S", "vos_optimized", "A100", "84.8", "2.15", "SA-V test 76.6", NOW),
    Published("EdgeTAM", "compiled", "A100", "150.9", "", "SA-V val 72.3, test 71.7", EDGETAM),
    Published(
        "EfficientTAM, 3 sizes", "compiled", "A100", "100, 125, 271", "", "SA-V test 74.5, 74.0, 71.5", EFFICIENTTAM
    ),
    Published("Efficient-SAM2-L", "", "not named", "", "1.68", "SA-V test 1.0 below SAM2.1-L", EFFICIENT_SAM2),
)
