"""The stages that DVC runs, the notebooks' runner, and what the commands do."""
