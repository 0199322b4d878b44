"""Parts of ``scripts/compare_vct.py``: inputs, the two sides, what is measured, the table."""
