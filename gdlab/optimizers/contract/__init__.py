"""A check of the contract that every optimizer satisfies, which can also be applied to factories of your own.

`check_contract` turns a factory into a `Case` (module `case`), runs one probe after the other on it and collects the
results in a `ContractReport` (`report`). A probe is a function `probe(case) -> detail` that raises
`BrokenContractError` if the optimizer fails. The modules `lanes`, `purity`, `schedules`, `finiteness` and `structure`
each cover one property. All probes run on the small problem in `bowl`.
"""

from gdlab.optimizers.contract.check import check_contract
from gdlab.optimizers.contract.report import ContractReport

__all__ = ["ContractReport", "check_contract"]
