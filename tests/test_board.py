"""The board: entries with their code, pages of them, and judgements that are repeated."""

import copy
import json
import re
from pathlib import Path

import pytest

from benchmarks.board_entries import STORED
from gdlab.cli.judging import code_of, write_folder
from gdlab.cli.user_code import load_factory
from gdlab.diagnostics import PROBLEMS
from gdlab.judging import judge
from gdlab.optimizers import OPTIMIZERS
from gdlab.records import read_json, write_json
from gdlab.reporting import board
from gdlab.reporting.judgements import decision
from tests.samples import judged
from tests.test_cli import run_command
from tests.test_explorer import HOSTILE, data_of
from tests.test_reporting import columns, pieces

CODE = {"file": "mine.py", "factory": "newcomer", "text": f"# {HOSTILE}\ndef newcomer():\n    ...\n"}


def written(folder, **changes):
    """The file of a judgement with its code."""
    path = folder / "judgement.json"
    write_json(path, judged() | {"code": CODE, "gdlab": "0.7.0"} | changes)
    return path


def test_an_entry_is_named_by_its_optimizer_tier_and_program(tmp_path):
    first = board.add(written(tmp_path), tmp_path / "board")
    assert first.name == "newcomer-quick-00000000.json"
    again = board.add(written(tmp_path, seconds=1.0), tmp_path / "board")
    assert again == first
    assert read_json(first)["seconds"] == 1.0
    hostile = board.add(written(tmp_path, name="../../" + HOSTILE), tmp_path / "board")
    assert hostile.parent == first.parent


def test_pages_of_all_entries_and_of_each(tmp_path):
    entry = board.add(written(tmp_path), tmp_path / "board")
    board.add(written(tmp_path, name=HOSTILE), tmp_path / "board")
    (entry.parent / "damaged.json").write_text("{")
    index = board.build(tmp_path / "board", tmp_path / "site")
    data = data_of(index.read_text())
    table = columns(pieces(data, "rows")[0])
    assert "gdlab" not in table  # it is the same for all entries
    assert sorted(table["optimizer"]) == sorted(["newcomer", HOSTILE])
    assert table["against sgd"].tolist() == [[0.3, 0.1, 0.5]] * 2
    assert table["sound"] == ["NO", "NO"]
    assert set(data["links"].values()) == {page.name for page in index.parent.glob("*.html")} - {"index.html"}
    assert "damaged.json" in data["damaged"][0]
    own = (index.parent / f"{entry.stem}.html").read_text()
    assert CODE["text"] in [piece.get("text") for piece in data_of(own)["sections"][0]["pieces"]]
    assert own.count("<script") == index.read_text().count("<script")
    assert read_json(index.parent / entry.name) == read_json(entry)


def test_entries_of_the_same_name_are_told_apart(tmp_path):
    first = board.add(written(tmp_path), tmp_path / "board")
    second = board.add(written(tmp_path, tier="standard", gdlab="0.6.0"), tmp_path / "board")
    data = data_of(board.build(tmp_path / "board", tmp_path / "site").read_text())
    names = {f"newcomer ({entry.stem})": f"{entry.stem}.html" for entry in (first, second)}
    table = columns(pieces(data, "rows")[0])
    assert table["optimizer"] == list(names)
    assert table["gdlab"] == ["0.7.0", "0.6.0"]
    assert data["links"] == names


def test_only_verdicts_beyond_the_stated_intervals_differ():
    before = judged()
    assert board.differences(before, before) == []
    now = copy.deepcopy(before)
    now["verdicts"]["overall"]["sgd"]["all diagnostics"]["mean"] = 0.49  # within 0.1 to 0.5
    now["verdicts"]["parts"]["sgd"]["scales"] |= {"mean": 0.51, "low": 0.4, "high": 0.6}
    del now["verdicts"]["parts"]["sgd"]["net"]
    found = board.differences(before, now)
    assert [(one.against, one.part) for one in found] == [("sgd", "scales"), ("sgd", "net")]
    assert found[0].now == "better by 0.51 (+0.40 to +0.60; 8 seeds)"
    assert found[1].now == "not computed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"code": None}, "judgement: expected one of gdlab judge, which holds the code"),
        ({"nearest": None}, "expected a judgement of this version"),
        ({"verdicts": {}}, "expected a judgement of this version"),
    ],
)
def test_other_files_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        board.add(written(tmp_path, **changes), tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys):
    with pytest.raises(FileNotFoundError, match=r"judgement: expected a file, got .*does not exist"):
        board.add(tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"board: expected a folder of judgements, got .* with none"):
        board.build(tmp_path / "empty", tmp_path / "site")
    entry = written(tmp_path, code=CODE | {"text": "1 / 0"})
    out, status = run_command(monkeypatch, capsys, "board", "verify", str(entry))
    assert (out, status) == ("", 2)
    entry = written(tmp_path, tier="huge")
    with pytest.raises(ValueError, match="entry: expected a tier among quick, standard, gpu, got 'huge'"):
        board.verify(entry, load_factory)


def test_the_projects_board_shows_the_stored_results(tmp_path):
    place = Path(__file__).parents[1] / "benchmarks" / "board"
    found, damaged = board.entries(place)
    assert damaged == []
    entries = {read.content["name"]: read.content for read in found.values()}
    for name, record in STORED.items():
        same = entries[name]["record"] == json.loads(json.dumps(record._asdict()))
        assert same, f"python -m benchmarks.board_entries {name} makes it anew"
        (tmp_path / "entry.py").write_text(entries[name]["code"]["text"])
        assert load_factory(f"{tmp_path / 'entry.py'}:{name}") is OPTIMIZERS[name]
    index = board.build(place, tmp_path / "site")
    table = columns(pieces(data_of(index.read_text()), "rows")[0])
    assert set(table["optimizer"]) == set(entries) == set(STORED)


@pytest.mark.slow
def test_a_judgement_is_repeated_and_a_changed_one_is_noticed(tmp_path, monkeypatch, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "from gdlab.optimizers import adam\n\n\ndef mine(learning_rate=1e-3, b1=0.5):\n"
        "    return adam(learning_rate, b1=b1)\n\n\nSPACE = {'learning_rate': (1e-3, 1.0)}\n"
    )
    ranges = {"learning_rate": (1e-3, 1.0)}
    problems = {"quadratic_aligned": PROBLEMS["quadratic_aligned"]}
    target = f"{file}:mine"
    found = judge(load_factory(target), ranges=ranges, against=["sgd"], problems=problems, networks=[], progress=False)
    write_folder(found, tmp_path / "judgement", code=code_of(target))
    entry = board.add(tmp_path / "judgement" / "judgement.json", tmp_path / "board")
    kept = tmp_path / "kept"
    out, status = run_command(monkeypatch, capsys, "board", "verify", str(entry), "--folder", str(kept))
    assert status == 0, out
    assert "The entry holds." in out
    assert "The program differs" not in out
    changed = read_json(entry)
    verdict = changed["verdicts"]["overall"]["sgd"]["all diagnostics"]
    for name in ("mean", "low", "high"):
        verdict[name] += 10.0
    write_json(entry, changed)
    out, status = run_command(monkeypatch, capsys, "board", "verify", str(entry), "--folder", str(kept))
    assert status == 1
    assert re.search(r"DIFFERS  all diagnostics against sgd: better by .*; now ", out)
    assert decision(verdict).mean > 9
