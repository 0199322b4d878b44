"""Computes and stores the flow of whole datasets."""
