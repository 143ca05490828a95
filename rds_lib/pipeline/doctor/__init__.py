"""Command `doctor`: what this machine and this checkout can do, one line a check, and whether each stage could end."""
