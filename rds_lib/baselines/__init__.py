"""The paper's baselines: each changes a SAM2 model in place, and the same predictor, evaluation and benchmark take it."""
