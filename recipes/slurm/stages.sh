# Read by the sbatch files, in the repository. All GPUs of the job do the long work of a stage, one process each; DVC
# then finds it done. PROCESSES are those of a node, where they are not as many as its GPUs.

# All nodes run the same command, and meet on the first one.
on_all_gpus() {
  local first
  first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
  srun --ntasks-per-node=1 torchrun \
    --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${PROCESSES:-$SLURM_GPUS_ON_NODE}" \
    --rdzv-backend=c10d --rdzv-endpoint="$first:${PORT:-29500}" --rdzv-id="$SLURM_JOB_ID" \
    -m rds_lib "$@"
}

do_stages() {
  local stage
  for stage in "$@"; do
    on_all_gpus stage "$stage"
    dvc repro --single-item "$stage"
  done
}
