"""What RDS is compared with: static plans, PBD, DyT, AdaViT, SlimSAM, other adapter placements."""
