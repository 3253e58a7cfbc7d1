"""From measurements to statements: statistics, rankings, claims, curves, basins and tables.

Of two numbers the lower one is better, as of losses and steps, unless `better="higher"` says otherwise.
"""
