#!/bin/bash
# Queue one experiment for each value of a parameter, and run them, two at a time:
#   recipes/dvc/queue.sh mini train.seed 1 2 3
# STAGE=train ends each with that stage; JOBS=1 runs one at a time. `dvc exp show` compares them afterwards.
set -euo pipefail
profile=$1 key=$2
shift 2
dvc repro source  # frozen stage pretrain has the cells in its list, which each experiment's own folder takes from here
for value in "$@"; do
  dvc exp run --queue --name "$profile-${key//[._]/-}-${value//./-}" \
    -S "profile=$profile" -S "params/$profile.yaml:$key=$value" ${STAGE:+"$STAGE"}
done
dvc queue start --jobs "${JOBS:-2}"
dvc queue status
