"""The checker of run-time types: beartype, with an int welcome where a float is asked for, as PEP 484 has it."""

from beartype import BeartypeConf, beartype

typechecked = beartype(conf=BeartypeConf(is_pep484_tower=True))
