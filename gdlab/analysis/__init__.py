"""Turn measurements into statements.

Statistics, rankings, claims, learning curves, arrivals, races, basins and tables; landscapes of hyperparameters, and
how much each of them matters.

Lower numbers are better, as for losses and step counts, unless `better="higher"` says otherwise.
"""
