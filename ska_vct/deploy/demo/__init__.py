"""A page in the browser that segments a clip a person uploads or records (docs/visualization.md)."""
