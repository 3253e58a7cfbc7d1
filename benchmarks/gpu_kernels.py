"""Kernels that a compiled program launches on a GPU, counted in its text (XLA's optimized HLO)."""

import re
from collections import Counter
from typing import NamedTuple

FREE = frozenset(
    {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "while", "conditional", "call"}
)
"""Operations that launch nothing themselves."""


class Operation(NamedTuple):
    """An operation of compiled HLO: its name, its kind, and the line that it stands on."""

    name: str
    kind: str
    line: str

    @property
    def called(self) -> list[str]:
        """The computations that it runs: the body and the condition of a loop, the branches of a conditional."""
        roles = "body|condition|(?:branch|true|false)_computations?|to_apply|calls"
        found = re.findall(rf"\b(?:{roles})=(?:{{([^}}]*)}}|(%[^\s,]+))", self.line)
        return re.findall(r"%([^\s,]+)", " ".join(map(" ".join, found)))

    @property
    def trips(self) -> int | None:
        """How often a loop runs, if that is fixed."""
        found = re.search(r'"known_trip_count":{"n":"(\d+)"}', self.line)
        return int(found[1]) if found else None

    @property
    def label(self) -> str:
        """What it is counted as."""
        target = re.search(r'custom_call_target="([^"]*)"', self.line)
        if target:
            return target[1]
        if self.kind == "fusion":
            special = re.search(r"__(triton\w*|cudnn\$\w+|cublas\$\w+)|transpose", self.line.partition("metadata")[0])
            return f"fusion ({special[0].strip('_')})" if special else "fusion"
        return self.kind


class Loop(NamedTuple):
    """A loop: how many loops of unknown length it lies in, whether its own length is fixed, and its kernels a pass."""

    depth: int
    fixed: bool
    kernels: Counter[str]


def computations(text: str) -> dict[str, list[Operation]]:
    """Return the operations of each computation in the text of a compiled program; "ENTRY" is where it begins."""
    found: dict[str, list[Operation]] = {}
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%(\S+) \(.*{$", line):
            inside = found.setdefault("ENTRY" if head[1] else head[2], [])
        elif body := re.match(r"\s+(?:ROOT )?%(\S+) = .*? ([a-z][a-z0-9-]*)\(", line):
            inside.append(Operation(body[1], body[2], line))
    return found


def kernels(program: dict[str, list[Operation]], name: str, depth: int, loops: list[Loop]) -> Counter[str]:
    """Count the kernels of one run of a computation, and add its loops, the inner ones first, to `loops`."""
    total: Counter[str] = Counter()
    for each in program[name]:
        if each.kind == "while":
            inner: Counter[str] = Counter()
            for part in each.called:
                inner += kernels(program, part, depth + (each.trips is None), loops)
            loops.append(Loop(depth, each.trips is not None, inner))
            total += Counter({label: count * (each.trips or 0) for label, count in inner.items()})
        elif each.kind == "conditional":
            branches = [kernels(program, branch, depth, loops) for branch in each.called]
            longest: Counter[str] = max(branches, key=Counter.total)
            total += longest
        elif each.kind in ("call", "async-start"):
            for part in each.called:
                total += kernels(program, part, depth, loops)
        elif each.kind not in FREE and not each.kind.endswith("-done"):
            total[each.label] += 1
    return total


def step_kernels(text: str) -> Counter[str]:
    """Count the kernels of one pass of the loop over steps.

    That is the largest loop among the innermost ones of unknown length, or the largest of all if every length is
    fixed. The step of a sweep is the former, that of an epoch the latter.
    """
    loops: list[Loop] = []
    kernels(computations(text), "ENTRY", 0, loops)
    return max(loops, key=lambda loop: (not loop.fixed, loop.depth, loop.kernels.total())).kernels
