#!/usr/bin/env bash
# Latency of Hiera-L at 1024 px on a GPU, bfloat16, one object: eager, then compiled against SAM2's own vos_optimized.
# Usage: benchmarks/gpu.sh [OUT]; some 6 minutes, most of them compiling. Writes eager.csv and compiled.csv into OUT.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/gpu}
mkdir -p "$out"
python3 benchmarks/hiera_l.py --frames 50 --warmup 20 --repeats 2 --threads 8 --csv "$out/eager.csv"
python3 benchmarks/hiera_l.py --frames 50 --warmup 20 --repeats 2 --threads 8 --budget 0.4 --compiled --csv "$out/compiled.csv"
