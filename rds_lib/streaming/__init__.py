"""Frames of a video as they come: from folders, files and cameras, those that still grow among them."""
