"""Pure values of the data model: dimensions, data IDs, times, dataset types, collections; no I/O."""

from lazy_loader import attach_stub

# An element makes the class of its records, which know data IDs and so stand above it
# (`DimensionElement.record_base`): whoever imports anything of the vocabulary has both.
from . import data_id as data_id

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
