"""The report of a judgement: one screen of text, and everything for machines."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gdlab.analysis.sequential import Decision
from gdlab.arguments import require_instance
from gdlab.diagnostics import PROBLEMS
from gdlab.judging import baselines
from gdlab.judging.baselines import Record
from gdlab.judging.judgement import Judgement
from gdlab.judging.verdicts import MARGIN, NETWORK_MARGIN, OVERALL

LABEL, OWN, WIDTH, ANSWER = 15, 16, 10, 13
"""The widths of columns of the table: the first, the newcomer's, one of each other optimizer, and a verdict's."""


def text(judgement: Judgement) -> str:
    """Return a judgement as one screen: is it sound, what is it like, and is it better?

    Args:
      judgement: what `judge` returned.

    Returns:
      The lines as one text.
    """
    require_instance("judgement", judgement, Judgement, "a Judgement, as judge returns it")
    took = round(judgement.seconds)
    head = f"{judgement.name} against {', '.join(judgement.opponents)}"
    return "\n".join(
        [
            f"{head} (tier {judgement.tier}, {took // 60}:{took % 60:02d} minutes)",
            "",
            *_sound(judgement),
            *_like(judgement),
            "",
            *_table(judgement),
            "",
            *_better(judgement),
            *(["", *judgement.notes] if judgement.notes else []),
        ]
    )


def _sound(judgement: Judgement) -> list[str]:
    sound = judgement.soundness
    passed = sum(check.passed for check in sound.checks)
    lines = [f"Is it sound?      {'Yes' if sound.ok else 'NO'}: it passes {passed} of {len(sound.checks)} checks."]
    lines += [f"                  FAIL {check.name}: {check.detail}" for check in sound.checks if not check.passed]
    lines.append(
        f"                  After 200 steps float32 agrees with float64 to {sound.agreement:.1f} digits; "
        f"{sound.bytes_per_parameter:.1f} bytes of state"
    )
    return [*lines, f"                  per parameter; a step takes {sound.relative_time:.2f} times as long as Adam's."]


def _like(judgement: Judgement) -> list[str]:
    near = ", ".join(f"{name} {cosine:.2f}" for name, cosine in judgement.nearest.items())
    return [f"What is it like?  {near} (cosines of steps)"]


def alike(judgement: Judgement, count: int = 2) -> dict[str, Record]:
    """Return the stored records of the optimizers that are nearest and are not opponents.

    Args:
      judgement: what `judge` returned.
      count: the largest number. Default 2.

    Returns:
      The records by name; nothing if the judgement is not about all problems.
    """
    if set(judgement.record.problems) != set(PROBLEMS):
        return {}
    skipped = {*judgement.opponents, judgement.name}
    records = {name: baselines.stored(name) for name in judgement.nearest if name not in skipped}
    return dict([(name, each) for name, each in records.items() if each is not None][:count])


def _table(judgement: Judgement) -> list[str]:
    columns = {judgement.name: judgement.record, **judgement.opponents, **alike(judgement)}
    wide = dict.fromkeys(columns, WIDTH) | {judgement.name: max(WIDTH, min(len(judgement.name) + 1, OWN))}
    head = "".join(f"{_short(name, wide[name] - 1):>{wide[name]}}" for name in columns)
    against = "".join(f"{_short('vs ' + name, ANSWER - 1):>{ANSWER}}" for name in judgement.opponents)
    rows = [f"{'levels (of 4)':<{LABEL}}{head}{against}"]
    for family in judgement.record.families:
        cells = "".join(f"{_levels(record, family):>{wide[name]}.2f}" for name, record in columns.items())
        rows.append(f"{family:<{LABEL}}{cells}{_answers(judgement, family)}")
    if judgement.record.networks:
        rows.append("digits of test loss / steps to target (median)")
    for network in judgement.record.networks:
        cells = "".join(f"{_digits(record, network):>{wide[name]}}" for name, record in columns.items())
        rows.append(f"{network:<{LABEL}}{cells}{_answers(judgement, network)}")
    return rows


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "."


def _levels(record: Record, family: str) -> float:
    """Return the mean number of levels that are solved, over the problems of a family."""
    rows = [each["solved"] for name, each in record.problems.items() if _family(name) in (family, None)]
    return float(np.mean(np.sum(rows, axis=1)))


def _family(problem: str) -> str | None:
    return PROBLEMS[problem].family if problem in PROBLEMS else None


def _digits(record: Record, network: str) -> str:
    if network not in record.networks:
        return "-"
    found = record.networks[network]
    steps = np.quantile([np.inf if each < 0 else each for each in found["arrived"]], 0.5, method="inverted_cdf")
    return f"{np.mean(found['digits']):.2f}/" + (f"{steps:.0f}" if np.isfinite(steps) else "-")


def _answers(judgement: Judgement, part: str) -> str:
    cells = []
    for parts in judgement.verdicts.parts.values():
        verdict = parts.get(part)
        size = "" if verdict is None or verdict.answer in ("equal", "cannot tell") else f" {verdict.mean:+.2f}"
        cells.append("" if verdict is None else ("?" if verdict.answer == "cannot tell" else verdict.answer) + size)
    return "".join(f"{cell:>{ANSWER}}" for cell in cells)


def _better(judgement: Judgement) -> list[str]:
    lines = [
        f"Is it better?  In decimal digits of the error that is left, paired by seed; equal: within {MARGIN:g} "
        f"({NETWORK_MARGIN:g} on networks)."
    ]
    for opponent, verdicts in judgement.verdicts.overall.items():
        for label in OVERALL:
            if label in verdicts:
                lines.append(f"  {label:<15} against {opponent + ':':<{WIDTH}} {sentence(verdicts[label])}")
    lines.append("Intervals hold at any number of seeds, at 95% over all opponents (Holm); tuning is not repeated.")
    return lines


def sentence(decision: Decision) -> str:
    """Return a verdict in words.

    Args:
      decision: the verdict.

    Returns:
      A text such as "better by 0.21 (0.15 to 0.27; 64 seeds)".
    """
    require_instance("decision", decision, Decision, "a Decision, as decide_pairs returns it")
    interval = f"({decision.low:+.2f} to {decision.high:+.2f}; {decision.pairs} seeds)"
    if decision.answer in ("better", "worse"):
        return f"{decision.answer} by {abs(decision.mean):.2f} {interval}"
    if decision.answer == "equal":
        return f"equal, {decision.mean:+.2f} {interval}"
    more = "more than 100,000 more" if decision.more is None else f"about {decision.more:,} more"
    return f"cannot tell, {decision.mean:+.2f} {interval}: {more} seeds needed"


def as_json(judgement: Judgement) -> dict[str, Any]:
    """Return all of a judgement as numbers, texts, lists and mappings.

    Args:
      judgement: what `judge` returned.

    Returns:
      The mapping; infinite ends of intervals are None.
    """
    require_instance("judgement", judgement, Judgement, "a Judgement, as judge returns it")
    found = _plain(judgement)
    found["soundness"]["ok"] = judgement.soundness.ok
    return found


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        return {key: _plain(each) for key, each in value._asdict().items()}
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


def levels_table(judgement: Judgement) -> tuple[list[str], list[str], np.ndarray]:
    """Return the map of a judgement: how many levels of each problem are solved.

    Args:
      judgement: what `judge` returned.

    Returns:
      The names of the problems, the names of the optimizers, and the numbers, (problems, optimizers).
    """
    columns: dict[str, Record] = {judgement.name: judgement.record, **judgement.opponents, **alike(judgement, 5)}
    names: Sequence[str] = list(judgement.record.problems)
    rows = [[float(np.sum(record.problems[name]["solved"])) for record in columns.values()] for name in names]
    return list(names), list(columns), np.asarray(rows)
