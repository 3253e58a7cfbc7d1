"""The version of gdlab: the one place where it is written, apart from CITATION.cff, which a test compares."""

VERSION = "0.7.0"
