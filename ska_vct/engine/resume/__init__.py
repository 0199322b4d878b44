"""What makes a resumed training the same training: its folder, random numbers, log and config."""
