"""What every other room stands on: errors, paths, parameters, files written whole, processes."""
