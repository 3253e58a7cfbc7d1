"""Which cases of a test belong to the default run: some that stand for all. The others are thorough."""

import pytest


def some_of(cases, quick):
    """Return the cases of a test as its parameters; those that are not in `quick` are thorough."""
    return [each if each in quick else _thorough(each) for each in cases]


def _thorough(case):
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.thorough)
