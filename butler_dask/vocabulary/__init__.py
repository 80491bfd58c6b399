"""Pure values of the data model: dimensions, data IDs, times, dataset types, collections; no I/O."""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
