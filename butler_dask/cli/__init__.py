"""The commands butler, pipetask and dask-submit: read options, call one function, print."""
