"""Names of the scoring conventions; :mod:`ska_vct.evaluation.conventions` defines them."""

CONVENTIONS = ("combo", "tpavi", "dataset", "pooled")
