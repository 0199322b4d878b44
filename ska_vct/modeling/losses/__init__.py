"""Matching, targets and losses."""
