"""Pipeline tasks: thin covers over `butler_dask.imaging`."""
