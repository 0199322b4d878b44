"""Resolves a checkpoint's name or address to a local file, downloading it if needed."""
