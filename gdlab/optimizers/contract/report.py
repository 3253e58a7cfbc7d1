"""The result of a contract check, which prints as a table with one line per property."""

from typing import NamedTuple


class BrokenContractError(Exception):
    """Raised when the contract is broken; the message says how."""


class Check(NamedTuple):
    """The result for one property.

    Attributes:
      name: the name of the check.
      passed: whether the property holds.
      detail: what was measured, or how the check failed.
    """

    name: str
    passed: bool
    detail: str


class ContractReport(NamedTuple):
    """The result of `check_contract`, which prints as a table.

    Attributes:
      factory: the name of the factory.
      checks: the results, one per property.
      numbers: the names of the hyperparameters that were traced and varied.
      static: the names of the arguments that were not.
    """

    factory: str
    checks: tuple[Check, ...]
    numbers: tuple[str, ...]
    static: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def __str__(self) -> str:
        lines = [f"{self.factory}: {'keeps' if self.ok else 'BREAKS'} the contract"]
        lines.append(f"  traced: {', '.join(self.numbers) or 'nothing'}; static: {', '.join(self.static) or 'nothing'}")
        width = max(len(check.name) for check in self.checks)
        lines += [f"  {'pass' if c.passed else 'FAIL'}  {c.name.ljust(width)}  {c.detail}" for c in self.checks]
        return "\n".join(lines)
