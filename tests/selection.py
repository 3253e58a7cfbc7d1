"""Which cases of a test belong to the default run: some that stand for all. The others are slow."""

import pytest


def some_of(cases, quick):
    """Return the cases of a test as its parameters; those that are not in `quick` are slow."""
    return [each if each in quick else _slow(each) for each in cases]


def _slow(case):
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
