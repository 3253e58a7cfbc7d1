"""A judgement as a section of a page."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gdlab.analysis.sequential import Decision
from gdlab.diagnostics import PROBLEMS
from gdlab.judging.report import sentence
from gdlab.judging.verdicts import MARGIN, NETWORK_MARGIN
from gdlab.records import read_json
from gdlab.reporting.pieces import Column, Curve, Curves, Levels, Piece, Ranges, Rows, Section, in_words
from gdlab.reporting.trainings import MEDIANS, curve_of


class Read(NamedTuple):
    """A judgement that was read from a file.

    Attributes:
      content: what the file holds.
      section: the same as a section of a page.
    """

    content: dict[str, Any]
    section: Section


def read_judgement(path: Path) -> Read:
    """Read judgement.json, as `gdlab judge` writes it.

    Raises:
      OSError: if the file cannot be read.
      ValueError: if it is damaged, or holds no judgement of this version.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "verdicts" not in content:
        raise ValueError(f"{path}: expected a judgement, as gdlab judge writes it, got other JSON")
    try:
        return Read(content, judgement_section(content, path))
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: expected a judgement of this version, got one without {error}") from None


def judgement_section(found: Mapping[str, Any], path: Path) -> Section:
    """Return the section of a judgement.

    Args:
      found: the content of judgement.json.
      path: the file.

    Raises:
      KeyError, TypeError, ValueError, AttributeError: if the content is not that of a judgement.
    """
    took = round(found["seconds"])
    against = ", ".join(found["opponents"])
    words = f"Judged against {against} in the tier {found['tier']}, in {took // 60}:{took % 60:02d} minutes."
    pieces: list[Piece] = [
        words,
        _soundness(found["soundness"]),
        _nearest(found["nearest"]),
        _overall(found["verdicts"]["overall"]),
        _parts(found["verdicts"]["parts"], found["record"]["networks"]),
        _map(found),
        *_networks(found),
    ]
    made = {"file": str(path), "digest of the program": found["record"]["digest"]}
    made |= in_words(found["record"]["made"])
    return Section(f"Judgement of {found['name']}", pieces, made, tuple(found["notes"]))


def _soundness(sound: Mapping[str, Any]) -> Rows:
    checks = sound["checks"]
    passed = sum(check["passed"] for check in checks)
    note = (
        f"It passes {passed} of {len(checks)} checks. After 200 steps float32 agrees with float64 to "
        f"{sound['agreement']:.1f} digits. It keeps {sound['bytes_per_parameter']:.1f} bytes of state per parameter, "
        f"and a step takes {sound['relative_time']:.2f} times as long as Adam's."
    )
    columns = [
        Column("check", "text", [check["name"] for check in checks]),
        Column("result", "text", ["passed" if check["passed"] else "FAILED" for check in checks]),
        Column("detail", "text", [check["detail"] for check in checks]),
    ]
    return Rows(f"Is it sound? {'Yes' if sound['ok'] else 'No'}", columns, note)


def _nearest(nearest: Mapping[str, float]) -> Rows:
    columns = [Column("optimizer", "text", list(nearest)), Column("cosine", "number", list(nearest.values()))]
    return Rows("What is it like? The nearest optimizers", columns, "By the cosines of steps on the same gradients.")


def decision(values: Mapping[str, Any]) -> Decision:
    """Return a verdict from JSON, which has null for an infinite end of its interval."""
    known = dict(values)
    for name, end in (("low", -np.inf), ("high", np.inf)):
        known[name] = end if known[name] is None else known[name]
    return Decision(**known)


def _overall(overall: Mapping[str, Mapping[str, Any]]) -> Rows:
    rows = [(opponent, part, decision(one)) for opponent, parts in overall.items() for part, one in parts.items()]
    columns = [
        Column("against", "text", [opponent for opponent, _, _ in rows]),
        Column("on", "text", [part for _, part, _ in rows]),
        Column("verdict", "text", [one.answer for _, _, one in rows]),
        Column("difference", "interval", [(one.mean, one.low, one.high) for *_, one in rows]),
        Column("seeds", "number", [one.pairs for *_, one in rows]),
        Column("in words", "text", [sentence(one) for *_, one in rows]),
    ]
    note = (
        "Differences are in decimal digits of the error that is left, paired by seed; positive ones are better. Equal "
        f"means within {MARGIN:g} on diagnostics and {NETWORK_MARGIN:g} on networks. Intervals hold at any number of "
        "seeds, at 95% over all opponents (Holm). Tuning is not repeated."
    )
    return Rows("Is it better?", columns, note)


def _parts(parts: Mapping[str, Mapping[str, Any]], networks: Mapping[str, Any]) -> Ranges:
    groups = {}
    for opponent, verdicts in parts.items():
        rows = []
        for part, values in verdicts.items():
            one = decision(values)
            margin = NETWORK_MARGIN if part in networks else MARGIN
            rows.append((part, one.mean, one.low, one.high, margin, sentence(one)))
        groups[f"against {opponent}"] = rows
    note = (
        "An interval within the gray band means equal. Another one means better if it lies to the right of 0, worse if "
        "to the left, and that nothing can be told if it contains 0."
    )
    return Ranges("By family of problems, and by network", "difference (decimal digits)", groups, note)


def _map(found: Mapping[str, Any]) -> Levels:
    records = {found["name"]: found["record"], **found["opponents"]}
    names = list(found["record"]["problems"])
    values = [[np.sum(record["problems"][name]["solved"]) for record in records.values()] for name in names]
    rows = [f"{name}  ({PROBLEMS[name].family if name in PROBLEMS else 'own'})".replace("_", " ") for name in names]
    note = "At a setting that is tuned for each problem and level; 4 means that all seeds solve all four levels."
    return Levels("Levels of each problem solved", rows, list(records), np.array(values), (0, 4), "levels solved", note)


def _networks(found: Mapping[str, Any]) -> list[Piece]:
    """Return a table and the curves of the networks, if there are any."""
    records = {found["name"]: found["record"], **found["opponents"]}
    rows = [
        (network, name, record["networks"][network])
        for network in found["record"]["networks"]
        for name, record in records.items()
        if network in record["networks"]
    ]
    if not rows:
        return []
    curves: dict[str, list[Curve]] = {}
    for network, name, one in rows:
        if len(one.get("curves", ())) == len(one["digits"]):
            table = np.array(one["curves"], float)
            curves.setdefault(network, []).append(curve_of(name, np.arange(1, table.shape[1] + 1), table))
    columns = [
        Column("network", "text", [network for network, _, _ in rows]),
        Column("optimizer", "text", [name for _, name, _ in rows]),
        Column("digits of test loss", "number", [np.mean(one["digits"]) for *_, one in rows]),
        Column("seeds", "number", [len(one["digits"]) for *_, one in rows]),
        Column("each seed", "sparkline", [one["digits"] for *_, one in rows]),
        Column("setting", "text", [_setting(one["chosen"]) for *_, one in rows]),
    ]
    note = (
        "The mean over seeds of the decimal digits by which the test loss after training is smaller than that of an "
        "answer that knows nothing; more is better."
    )
    pieces: list[Piece] = [Rows("Networks", columns, note)]
    if curves:
        drawn = {curve.name for each in curves.values() for curve in each}
        without = [name for name in dict.fromkeys(name for _, name, _ in rows) if name not in drawn]
        what = f"The same digits as in the table, after each epoch. {MEDIANS}"
        what += f" The results of {', '.join(without)} do not hold them." if without else ""
        pieces.append(Curves("Networks after each epoch", "epoch", curves, what))
    return pieces


def _setting(chosen: Any) -> str:
    if isinstance(chosen, Mapping):
        return ", ".join(f"{key} {value:.4g}" for key, value in chosen.items())
    return str(chosen)
