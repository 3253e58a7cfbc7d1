"""What a check of the contract found, as a table with one line per demand."""

from typing import NamedTuple


class BrokenContractError(Exception):
    """The contract is broken; the message says how."""


class Check(NamedTuple):
    """One demand: its name, whether it holds, and what was seen."""

    name: str
    passed: bool
    detail: str


class ContractReport(NamedTuple):
    """What `check_contract` found. Prints as a table; `ok` if every check passed.

    numbers: the hyperparameters that were traced and varied. static: the arguments that were not.
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
