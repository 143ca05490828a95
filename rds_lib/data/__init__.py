"""Videos in and out: generated clips, data set layouts, frames, masks, training batches."""
