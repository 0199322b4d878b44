"""Frames, masks and pre-masks from image files."""
