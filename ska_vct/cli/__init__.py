"""Commands that are installed with the package; they parse, call and print. ``tools/`` has them in a checkout."""
