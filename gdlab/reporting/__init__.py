"""Reporting: any result of gdlab as one web page that opens from disk, without a network.

`page_of([folder, file, ...])` reads judgements, studies, trainings and datasets of sweeps and scans, and returns the
page: tables that can be sorted and filtered, curves, sensitivities and maps, and where every number comes from.
"""

from gdlab.reporting.page import Page, page_of, save

__all__ = ["Page", "page_of", "save"]
