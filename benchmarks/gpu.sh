#!/usr/bin/env bash
# All that a lent GPU is asked for, in one call of at most nine minutes: Hiera-L at 1024 px, random weights.
#   bash benchmarks/gpu.sh [OUT]                        # by default build/gpu; the page is OUT/README.md
#   DEVICE=cpu SIZE=256 bash benchmarks/gpu.sh [OUT]    # the same on a CPU, with few frames: a rehearsal
# Each step is a process of its own with a time box, the boxes add up to less than 540 s, and what a step saved stays when it is
# cut. OUT/cache keeps what was compiled: bring it back into OUT and the next call need not compile that again.
# CONFIG=mini takes the small model; STRETCH=3 makes every box three times as long, for a slow machine; STEPS="parity
# eager" takes these steps alone; BOX=20 gives each so many seconds.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:-build/gpu} device=${DEVICE:-cuda} size=${SIZE:-1024} stretch=${STRETCH:-1} python=${PYTHON:-python}
mkdir -p "$out/cache"
out=$(cd "$out" && pwd)
export TORCHINDUCTOR_CACHE_DIR="$out/cache/inductor" TRITON_CACHE_DIR="$out/cache/triton" TORCHINDUCTOR_FX_GRAPH_CACHE=1
export PYTHONPATH=$PWD TQDM_DISABLE=1
model="--device $device --size $size --config ${CONFIG:-configs/sam2.1/sam2.1_hiera_l.yaml}"
frames="" seen=20 smaller="" vos=--vos-optimized
if [ "$device" = cpu ]; then # few frames; SAM2's autotuning is for GPUs alone
  frames="--dtype bfloat16 --warmup 1 --frames 1 --repeats 2 --sweep 4 --videos 2 --video-repeats 1 --threads ${THREADS:-1}"
  seen=3 vos=""
fi
[ "${CONFIG:-}" = mini ] && smaller=--no-smaller
summary=$out/summary.txt
: >"$summary"

step() { # name, seconds, command
  local name=$1 box=${BOX:-$(($2 * stretch))} began=$SECONDS code
  shift 2
  [[ " ${STEPS:-$name} " == *" $name "* ]] || return 0
  timeout --kill-after=5 "$box" "$@" >"$out/$name.log" 2>&1
  code=$?
  case $code in
    0) echo "$name: ended after $((SECONDS - began)) s" ;;
    124 | 137) echo "$name: cut after $box s; what it saved before stays" ;;
    *) echo "$name: failed with exit code $code after $((SECONDS - began)) s: $(tail -n 1 "$out/$name.log")" ;;
  esac | tee -a "$summary"
}

latency() { # name, seconds, further arguments of hiera_l.py
  local name=$1 box=$2
  shift 2
  step "$name" "$box" "$python" benchmarks/hiera_l.py --out "$out" $model $frames "$@"
}

steps="$python benchmarks/method_steps.py"
step parity 70 "$python" benchmarks/engine_parity.py --out "$out" $model --engine all --frames $seen
latency eager 110 $smaller --parts frames work routes
latency engines 120 --engine all --no-smaller --parts frames routes --objects 1 2
latency vos_optimized 95 --engine last $vos --no-smaller --parts frames --objects 1 2
step importance 30 $steps importance --out "$out" $model
step slimsam 35 $steps slimsam --out "$out" $model
step adavit 35 $steps adavit --out "$out" $model
latency memory 40 --no-smaller --parts videos
compgen -G "$out/*.csv" >/dev/null # the exit code: whether anything was saved
