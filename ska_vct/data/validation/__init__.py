"""Checks of a dataset on disk."""
