"""From a checkpoint's name to a local file."""
