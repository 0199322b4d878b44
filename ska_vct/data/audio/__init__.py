"""Waveforms and log-mel spectrograms."""
