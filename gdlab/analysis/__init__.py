"""Turn measurements into statements: statistics, rankings, claims, learning curves, arrivals, basins and tables.

Lower numbers are better, as for losses and step counts, unless `better="higher"` says otherwise.
"""
