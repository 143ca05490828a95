"""The training loop, its state on disk, and the training of RDS."""
