"""Run methods over data sets: scores, controls, recordings, and the timing benchmark."""
