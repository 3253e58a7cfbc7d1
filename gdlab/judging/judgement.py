"""`judge`: one call that says whether an optimizer is sound, what it is like, and whether it is better than others."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from tqdm.auto import tqdm

from gdlab.analysis.sequential import Decision
from gdlab.arguments import (
    as_path,
    first_line,
    require_callable,
    require_choice,
    require_flag,
    require_mapping,
    require_number,
    require_sequence,
    require_strings,
    require_text,
)
from gdlab.compute.forks import require_unforked
from gdlab.compute.interrupts import heeded
from gdlab.data import DataError
from gdlab.diagnostics import PROBLEMS
from gdlab.diagnostics.problem import Problem, require_problem
from gdlab.judging import baselines, nearness
from gdlab.judging.baselines import Record
from gdlab.judging.contenders import Contender, completed, contender, digest_contender, known, try_settings
from gdlab.judging.keeping import Kept
from gdlab.judging.networks import NETWORKS, data_digest
from gdlab.judging.soundness import Soundness, examine
from gdlab.judging.subject import STEPS
from gdlab.judging.tiers import TIERS, Tier
from gdlab.judging.verdicts import OVERALL, Verdicts, compare
from gdlab.optimizers import OPTIMIZERS
from gdlab.optimizers.contract.report import BrokenContractError
from gdlab.types import Factory
from gdlab.version import VERSION

AGAINST = ("adam", "momentum", "sgd")
"""The opponents by default."""

SOUNDNESS_SECONDS = 30
"""About how long it takes to find out whether an optimizer is sound, for budgets."""


class Judgement(NamedTuple):
    """What is known of an optimizer after a call of `judge`.

    Attributes:
      name: what the optimizer is called.
      tier: the name of the tier.
      soundness: the checks that it passed and failed, and what a step costs.
      nearest: the optimizers of gdlab whose steps are most similar, with their similarities.
      record: what it achieves.
      opponents: what its opponents achieve, by name.
      verdicts: the comparison with each of them.
      notes: what a reader should know, such as what was left out.
      seconds: how long the call took.
    """

    name: str
    tier: str
    soundness: Soundness
    nearest: dict[str, float]
    record: Record
    opponents: dict[str, Record]
    verdicts: Verdicts
    notes: tuple[str, ...]
    seconds: float


@heeded()
def judge(
    factory: Factory,
    *,
    name: str | None = None,
    ranges: Mapping[str, Any] | None = None,
    against: Sequence[str] = AGAINST,
    tier: str = "quick",
    budget: float | None = None,
    refresh: bool = False,
    problems: Mapping[str, Problem] | None = None,
    networks: Sequence[str] | None = None,
    folder: str | Path | None = None,
    say: Callable[[str], Any] = print,
    progress: bool = True,
) -> Judgement:
    """Judge an optimizer: is it sound, what is it like, and is it better than others?

    The optimizer and its opponents are tuned over the same number of settings on each problem, level and network, and
    then judged on other seeds. Seeds are paired: all see the same instances, starts, noise and order of examples. A
    verdict is "better", "worse", "equal" (within `verdicts.MARGIN`) or "cannot tell"; see `gdlab.analysis.sequential`.
    Weight decay, which moves solutions, is 0 for all. The choice of the settings is not repeated, so the intervals do
    not contain its chance.

    Args:
      factory: a function that returns an optax transformation, and whose arguments have defaults.
      name: what to call it. Default None: the name of the function. If gdlab has an optimizer of that name, such as
        adam, it is called my_adam.
      ranges: for each argument that is tuned, a `log_range`, a `linear_range` or a pair of numbers. Default None:
        `learning_rate` from 1e-6 to 100 (on networks from 1e-5 to 10), if the factory takes it.
      against: the names of opponents in `gdlab.OPTIMIZERS`. Default: adam, momentum and sgd.
      tier: "quick" (the default; minutes on two cores), "standard" (more seeds and settings, and Fashion-MNIST where it
        is prepared) or "gpu" (ResNet18 on CIFAR-10, too).
      budget: the number of seconds after which no network and no further seeds are begun. Default None: no limit.
      refresh: whether opponents are run anew, rather than read from the records of this package. Default False.
      problems: the problems by name. Default None: all of `gdlab.diagnostics.PROBLEMS`. With others, or in another tier
        than "quick", opponents are run.
      networks: the names of networks. Default None: those of the tier.
      folder: a folder where each result is kept as soon as it is there, so that the same call continues after an
        interruption. Default None: nothing is kept.
      say: called with each line that reports on the way. Default `print`.
      progress: whether to show a progress bar on a terminal. Default True.

    Returns:
      The `Judgement`; `gdlab.judging.text` writes it as one screen.

    Raises:
      TypeError: if the factory is a class, such as one of torch.optim, or does not return an optax transformation.
      ValueError: if an argument has neither a default nor a range, the factory refuses all settings, or the budget is
        too small.
      BrokenContractError: if the optimizer fails checks of its soundness and cannot be judged for that reason.
      KeyError: if an opponent is not an optimizer of gdlab.
      RuntimeError: in a process that was forked after JAX had started, or for the tier "gpu" without one.
    """
    require_unforked("judge")
    label = getattr(factory, "__name__", "optimizer") if name is None else name
    require_text("name", label)
    label = f"my_{label}" if label in OPTIMIZERS else label
    one = contender(label, factory, ranges)
    require_strings("against", against, empty=False)
    require_sequence("against", against, "names of optimizers", least=1)
    opponents = {each: known(each) for each in against}
    require_choice("tier", tier, tuple(TIERS))
    require_flag("refresh", refresh)
    require_flag("progress", progress)
    require_callable("say", say)
    if problems is not None:
        require_mapping("problems", problems, "from names to problems", least=1)
        for key, problem in problems.items():
            require_problem(f"problems[{key!r}]", problem)
    if networks is not None:
        require_strings("networks", networks, empty=False)
        for each in networks:
            require_choice("networks", each, tuple(NETWORKS))
    sizes = TIERS[tier]
    if sizes.needs_gpu and jax.default_backend() != "gpu":
        raise RuntimeError(f"tier: expected a GPU for {tier!r}, got the backend {jax.default_backend()!r}")
    try_settings(one, sizes.settings, STEPS)
    place = None if folder is None else as_path("folder", folder)
    complete = completed(factory, one.ranges, STEPS)
    call = _Call(complete, one, opponents, tier, sizes, problems, refresh, say, progress, place)
    call.limit(budget)
    return call.run(sizes.networks if networks is None else tuple(networks))


class _Call:
    """A checked call of `judge` and its progress."""

    def __init__(
        self,
        factory: Factory,
        one: Contender,
        opponents: dict[str, Contender],
        tier: str,
        sizes: Tier,
        problems: Mapping[str, Problem] | None,
        refresh: bool,
        say: Callable[[str], Any],
        progress: bool,
        folder: Path | None,
    ):
        self.factory, self.one, self.opponents, self.tier, self.sizes = factory, one, opponents, tier, sizes
        self.problems, self.say, self.progress = problems, say, progress
        self.uses_stored = not refresh and problems is None and tier == "quick"
        self.began = time.perf_counter()
        self.budget: float | None = None
        self.folder = folder
        self.kept: dict[str, Kept] = {}
        self.notes: list[str] = []

    def limit(self, budget: Any) -> None:
        """Check the budget: the least is what the diagnostics take, as far as that is known from Adam's record."""
        if budget is None:
            return
        require_number("budget", budget, 0.0, open_low=True)
        adam = baselines.stored("adam")
        least = SOUNDNESS_SECONDS + (adam.seconds["diagnostics"] if adam and self.problems is None else 0.0)
        if budget < least:
            raise ValueError(
                f"budget: expected at least {least:.0f} seconds, which the soundness and all problems take on two "
                f"cores, got {budget:g}"
            )
        self.budget = float(budget)

    def run(self, names: Sequence[str]) -> Judgement:
        self.say(f"Judging {self.one.name} against {', '.join(self.opponents)}, tier {self.tier}.")
        soundness = examine(self.factory)
        failed = [check for check in soundness.checks if not check.passed]
        self.say(f"Soundness: {len(soundness.checks) - len(failed)} of {len(soundness.checks)} checks passed.")
        for check in failed:
            self.say(f"  FAIL  {check.name}: {check.detail}")
        try:
            return self._judged(names, soundness)
        except (TypeError, ValueError) as error:
            if soundness.ok:
                raise
            how = f"{len(failed)} of {len(soundness.checks)} checks"
            reason = f"{self.one.name} fails {how}, and cannot be judged: {first_line(error)}"
            raise BrokenContractError(reason) from error

    def _judged(self, names: Sequence[str], soundness: Soundness) -> Judgement:
        nearest = nearness.nearest_known(self.factory)
        record = self._diagnosed(self.one)
        if record.refused:
            self.notes.append(
                f"{self.one.name} refuses {record.refused} of {self.sizes.settings} settings ({record.reason}); they "
                "are left out."
            )
        others = {name: self._opponent(each) for name, each in self.opponents.items()}
        self._compare_stored(others)
        record, others = self._networks(names, record, others)
        verdicts = verdicts_of(record, others)
        seconds = time.perf_counter() - self.began
        return Judgement(
            self.one.name, self.tier, soundness, nearest, record, others, verdicts, tuple(self.notes), seconds
        )

    def _keeper(self, one: Contender) -> Kept:
        if one.name not in self.kept:
            place = None
            if self.folder is not None:
                name = f"{one.name}-{self.tier}-{digest_contender(one)}"
                place = self.folder / "kept" / VERSION / name
            self.kept[one.name] = Kept(place)
        return self.kept[one.name]

    def _diagnosed(self, one: Contender) -> Record:
        problems = PROBLEMS if self.problems is None else self.problems
        kept = self._keeper(one)
        bar = tqdm(total=len(problems), unit=" problems", desc=one.name, disable=None if self.progress else True)
        with bar:
            record = baselines.make_record(one, self.sizes, kept, lambda _: bar.update(), problems=problems)
        again = f", {kept.read} of them kept from before" if kept.read else ""
        self.say(f"{one.name}: {len(problems)} problems in {record.seconds['diagnostics']:.0f} s{again}.")
        return record

    def _opponent(self, one: Contender) -> Record:
        found = baselines.stored(one.name) if self.uses_stored else None
        return self._diagnosed(one) if found is None else found

    def _compare_stored(self, others: Mapping[str, Record]) -> None:
        """Repeat a part of a stored record here, and note how well it agrees."""
        first = next((each for name, each in others.items() if self.uses_stored and baselines.stored(name)), None)
        if first is None:
            return
        differs = baselines.drift(first)
        what = f"repeating {baselines.CHEAP} with {first.name} here changes the share of solved seeds by"
        self.notes.append(f"Opponents' results are stored; {what} at most {differs:.2f}.")
        if differs > 0.1:
            self.notes.append("That is much: let --refresh run the opponents here.")

    def _networks(
        self, names: Sequence[str], record: Record, others: dict[str, Record]
    ) -> tuple[Record, dict[str, Record]]:
        """Train the networks, and then further seeds of them while the verdicts are open and the time allows."""
        low, trained = 0, [name for name in names if self._has_data(name)]
        for high in self.sizes.network_seeds:
            for name in list(trained):
                if not self._affords(name):
                    trained.remove(name)
                    what = name if low == 0 else f"more seeds of {name}"
                    self.notes.append(f"Left out for the budget: {what}.")
                    continue
                record = self._trained(self.one, record, name, range(low, high))
                others = {
                    key: self._trained(self.opponents[key], each, name, range(low, high))
                    for key, each in others.items()
                }
            if low == 0 and trained:
                self.say(f"{self.one.name}: {', '.join(trained)} trained from {high} seeds.")
            low = high
            verdicts = verdicts_of(record, others)
            if not self._is_open(verdicts.overall, OVERALL[1]):
                trained = [name for name in trained if self._is_open(verdicts.parts, name)]
        return record, others

    def _is_open(self, verdicts: Mapping[str, Mapping[str, Decision]], part: str) -> bool:
        return any(each[part].answer == "cannot tell" for each in verdicts.values() if part in each)

    def _trained(self, one: Contender, record: Record, name: str, seeds: range) -> Record:
        have = record.networks.get(name)
        if have is not None and have["data"] != data_digest(name):
            self.say(f"{one.name}: the stored results of {name} are about other data, and are made anew.")
            have = None
            record = record._replace(networks={key: each for key, each in record.networks.items() if key != name})
        if have is not None and len(have["digits"]) >= seeds.stop:
            return record
        low = len(have["digits"]) if have else 0
        return baselines.train_network(one, record, name, self.sizes, self._keeper(one), range(low, seeds.stop))

    def _has_data(self, name: str) -> bool:
        try:
            NETWORKS[name].task()
        except DataError as error:
            self.notes.append(f"Left out: {name}, {first_line(error)}")
            return False
        return True

    def _affords(self, name: str) -> bool:
        if self.budget is None:
            return True
        adam = baselines.stored("adam")
        takes = adam.seconds.get(name, 60.0) if adam else 60.0
        return time.perf_counter() - self.began + takes <= self.budget


def verdicts_of(record: Record, others: Mapping[str, Record]) -> Verdicts:
    """Compare the record of a newcomer with those of its opponents, on diagnostics and on networks."""
    return compare(
        (record.digits, {name: each.digits for name, each in others.items()}),
        (record.network_digits, {name: each.network_digits for name, each in others.items()}),
    )
