"""Execution: the only package that imports Dask."""
