"""The checker of run-time types: beartype, which accepts an int for a float, as PEP 484 does."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
