"""Videos segmented: results in memory, as a stream, and as files."""
