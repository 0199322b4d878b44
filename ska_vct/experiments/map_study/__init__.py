"""Trains motion maps alone and measures how often they pick the sounding object."""
