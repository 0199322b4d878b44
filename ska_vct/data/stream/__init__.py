"""Videos of any length, read once and handed out clip by clip, as the datasets' mapper sees clips."""
