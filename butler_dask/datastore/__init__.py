"""Files of datasets: paths, atomic writes, and the formatters that turn objects into files and back."""
