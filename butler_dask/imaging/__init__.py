"""Image values and algorithms: numpy arrays and astropy; nothing here knows a butler, SQL or Dask."""
