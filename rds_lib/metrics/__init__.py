"""Scores equal to the official evaluations, and their intervals."""
