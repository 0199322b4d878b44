"""AVSBench releases: facts, tables, folder layouts and records."""
