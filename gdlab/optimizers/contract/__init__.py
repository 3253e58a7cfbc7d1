"""The contract that every optimizer keeps, as a check that a factory of one's own can be put through too.

`check_contract` makes a `Case` of a factory (`case`), hands it to one probe after the other and collects their answers
in a `ContractReport` (`report`). A probe is a function `probe(case) -> detail` that raises `BrokenContractError` where
the optimizer fails: `lanes`, `purity`, `schedules`, `finiteness` and `structure` hold one idea each. All of them run on
the small problem in `bowl`.
"""

from gdlab.optimizers.contract.check import check_contract
from gdlab.optimizers.contract.report import ContractReport

__all__ = ["ContractReport", "check_contract"]
