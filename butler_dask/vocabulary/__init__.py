"""Pure values of the data model: dimensions, data IDs, times, dataset types, datasets, collections; no I/O."""
