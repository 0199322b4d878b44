"""Scores under replaced audio (silence, noise, off-screen audio), and on silent twins and movers."""
