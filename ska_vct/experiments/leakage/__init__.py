"""Measures whether anything but the audio-motion match gives the sounding object away."""
