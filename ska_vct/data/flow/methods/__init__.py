"""Flow methods by name."""
