"""Tables of text."""

import csv
import io

from blurlib._common.files import csv_table, written
from blurlib.reporting import markdown_table, plain_table

HEADER, ROWS = ["blur", "top-1 %"], [["sharp", "76.1"], ["a much longer name", "7"]]


def test_plain_columns_line_up():
    lines = plain_table(HEADER, ROWS).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[2].startswith("sharp ") and lines[3].endswith("      7")


def test_markdown_escapes_bars():
    assert markdown_table(["a|b"], [["c|d"]]).splitlines() == [r"| a\|b |", "|:--|", r"| c\|d |"]


def test_csv_reads_back_to_the_same_numbers():
    value = 0.1 + 0.2
    rows = list(csv.reader(io.StringIO(csv_table(["blur", "x"], [["L12@30,5", value]]))))
    assert rows[1] == ["L12@30,5", repr(value)] and float(rows[1][1]) == value


def test_written_leaves_whole_files_only(tmp_path):
    path = tmp_path / "new" / "table.md"
    written("old\n", path)
    assert written("é\n", path) == "é\n"
    assert path.read_bytes() == "é\n".encode() and [p.name for p in path.parent.iterdir()] == ["table.md"]
