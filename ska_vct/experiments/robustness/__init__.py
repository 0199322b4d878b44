"""Scores under replaced audio (silence, noise, off-screen sound), and on silent twins and movers."""
