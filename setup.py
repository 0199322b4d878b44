from setuptools import setup

setup()  # All metadata: pyproject.toml
