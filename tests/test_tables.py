import csv
import io

import pytest

from gdlab.analysis.tables import Table, render

TABLE = Table(("name", "share"), [("a_b", "5%"), ("c, d", "100%")], "Shares & <more>")


def test_text_is_aligned_to_the_right():
    assert TABLE.text() == "name  share\n-----------\n a_b     5%\nc, d   100%"


def test_csv_reads_back():
    assert list(csv.reader(io.StringIO(TABLE.csv()))) == [["name", "share"], ["a_b", "5%"], ["c, d", "100%"]]


def test_markdown_and_latex():
    assert TABLE.markdown().splitlines()[1:3] == ["| --- | --- |", "| a_b | 5% |"]
    assert r"a\|b" in Table(("x",), [("a|b",)]).markdown()
    latex = TABLE.latex().splitlines()
    assert r"a\_b & 5\% \\" in latex
    assert r"\caption{Shares \& \textless{}more\textgreater{}}" in latex
    assert r"\begin{tabular}{lr}" in latex
    special = Table((r"\^~{}#$",), []).latex()
    assert r"\textbackslash{}\textasciicircum{}\textasciitilde{}\{\}\#\$ \\" in special


def test_cells_stay_text():
    # A bracket or star at the start of a row would be an argument of the line break above; "a\\|b" would end the cell.
    rows = Table(("x", "y"), [("[0, 1]", "1"), ("*", "2"), ("a|b", "3")]).latex().splitlines()
    assert r"{}[0, 1] & 1 \\" in rows
    assert r"{}* & 2 \\" in rows
    assert r"a\textbar{}b & 3 \\" in rows
    assert Table(("x",), [(r"0.1* to 5*, a\|b_c, <1%",)]).markdown().endswith(r"| 0.1\* to 5\*, a\\\|b_c, <1% |")
    assert Table(("x",), (("1",) for _ in range(2))).text() == "x\n-\n1\n1"  # a generator is read once


@pytest.mark.parametrize("cell", [1, None, "a\nb", "a\n"])
def test_cells_that_are_not_one_line_of_text_are_refused(cell):
    with pytest.raises(ValueError, match="rows: expected one line of text in each cell, got"):
        Table(("x",), [(cell,)])


def test_the_files_need_a_name(tmp_path):
    with pytest.raises(ValueError, match="stem: expected a path that ends in a name"):
        TABLE.write(f"{tmp_path}/")
    assert not list(tmp_path.iterdir())


def test_files_are_complete(tmp_path):
    paths = TABLE.write(tmp_path / "deep" / "table.v1")
    assert [path.name for path in paths] == ["table.v1.txt", "table.v1.csv", "table.v1.tex"]
    assert paths[0].read_text() == TABLE.text() + "\n"
    assert paths[1].read_text() == TABLE.csv()
    assert not list(tmp_path.rglob(".*"))


def test_ragged_rows_are_refused():
    with pytest.raises(ValueError, match=r"rows: expected as many cells as the head \(2\), got 1"):
        Table(("a", "b"), [("c",)])


def test_a_report_is_text_and_tables_one_after_another():
    blocks = ["# Title", Table(("a", "b"), [("1", "2")], "Numbers."), "- " + "word " * 40]
    marked = render(blocks, markdown=True)
    assert marked.startswith("# Title\n\nNumbers.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n\n- word")
    plain = render(blocks, markdown=False).splitlines()
    assert plain[:2] == ["Title", "====="]
    assert max(map(len, plain)) <= 120
    assert plain[-1].startswith("  word")
    with pytest.raises(TypeError, match="blocks: expected text and tables, got 3"):
        render([3], markdown=True)
