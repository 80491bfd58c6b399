"""Pure values of the data model: dimensions, data IDs, times, dataset types, collections; no I/O."""

# An element makes the class of its records, which know data IDs and so stand above it
# (`DimensionElement.record_base`): whoever imports anything of the vocabulary has both.
from . import data_id as data_id
