"""Image values and algorithms: numpy arrays and astropy; nothing here knows a butler, SQL or Dask."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
