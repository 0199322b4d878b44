"""Parts of ``scripts/compare_vct.py``: inputs, the two programs, measurements, tables."""
