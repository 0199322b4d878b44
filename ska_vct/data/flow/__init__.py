"""Flow fields: stored files, camera motion, methods and their extraction from clips."""
