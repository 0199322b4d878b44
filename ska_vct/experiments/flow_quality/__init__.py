"""Compares flow methods with the true flow of synthetic clips."""
