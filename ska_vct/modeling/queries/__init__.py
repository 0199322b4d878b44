"""Query generation."""
