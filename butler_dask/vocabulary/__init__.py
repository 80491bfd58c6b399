"""Pure values of the data model: dimensions, data IDs, times, dataset types, collections; no I/O."""
