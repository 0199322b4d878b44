"""Shared fixtures; data that takes long to make is made once per session."""
