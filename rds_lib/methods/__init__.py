"""What RDS is compared with: static plans, PBD, DyT, AdaViT, SlimSAM, other adapter placements.

Importing the package registers the baselines of Table 9, in the order of its rows.
"""

from importlib import import_module

from rds_lib.methods.base import METHODS, Method, method_of, register

__all__ = ["METHODS", "Method", "method_of", "register"]

for _name in ("slimsam_training", "pbd", "dyt", "adavit"):
    import_module(f"{__name__}.{_name}")
