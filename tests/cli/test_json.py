"""`--json`: one document on stdout, whatever is printed besides, and what Python's own functions give."""

import json
from pathlib import Path

import pytest
import torch
from test_cli import SMALL, place, run  # noqa: F401  a fixture

import blurlib
from blurlib._cli import reproduce
from blurlib.paper import ReproducedCell, ReproducedTable
from blurlib.reporting import Report

SEEN = ["--scales", "24", "--blurs", "sharp,D2", *SMALL]


@pytest.fixture
def talking(place):  # noqa: F811  the fixture
    """A network that prints, as those of others do."""
    (place / "talking.py").write_text(
        "from networks import tiny\n\ndef build():\n    print('built')\n    return tiny()\n", encoding="utf-8"
    )
    return place


def test_a_report_is_the_only_thing_on_stdout_and_reads_back(talking):
    result = run("evaluate", "talking:build", "data", *SEEN, "--output", "a", "--json")
    assert "built" in result.stderr and "Kept in a." in result.stderr
    assert json.loads(result.stdout) == json.loads(Path("a/report.json").read_text(encoding="utf-8"))
    Path("copy.json").write_text(result.stdout, encoding="utf-8")
    Path("copy.npz").write_bytes(Path("a/report.npz").read_bytes())
    assert Report.load("copy.json").table() == Report.load("a").table()
    shown = run("report", "a", "--markdown", "a.md", "--json")
    assert json.loads(shown.stdout) == json.loads(result.stdout)
    assert "Wrote a.md" in shown.stderr
    compared = json.loads(run("report", "a", "a", "--json").stdout)
    assert compared == json.loads(blurlib.compare(Report.load("a"), Report.load("a")).to_json())
    refused = run("report", "a", "--confidence", "--json", code=2)
    assert refused.stdout == "" and "--json" in refused.stderr


def test_an_error_leaves_stdout_empty(talking):
    result = run("evaluate", "talking:build", "absent", "--json", code=2)
    assert result.stdout == "" and "'absent'" in result.stderr


def test_reproduced_tables_and_figures_are_one_document(talking, monkeypatch):
    cell = ReproducedCell(
        row="Sharp", column="256", network="original", sides=(256,), blur="sharp", metric="top1",
        paper=None, value=0.5, interval=(0.4, 0.6), each=(0.5,),
    )  # fmt: skip
    table = ReproducedTable(item="table1", title="A", cells=(cell,), settings={})

    class Run:
        def __init__(self, model, root, *, output, **_):
            assert isinstance(model, torch.nn.Module)
            self.output = output

        def dry_run(self, *_):
            return "a table of text"

    monkeypatch.setattr(reproduce, "Run", Run)
    monkeypatch.setattr(reproduce, "reproduce_table", lambda *_: table)
    monkeypatch.setattr(ReproducedTable, "to_html", lambda *_: None)
    for name in ("figure1", "figure2", "figure3", "figure4"):
        monkeypatch.setattr(reproduce, name, lambda *_, **__: Path("drawn.png"))
    common = ["--root", "data", "--model", "talking:build"]
    result = run("reproduce", "all", *common, "--json")
    found = json.loads(result.stdout)
    assert list(found["tables"]) == ["table1", "table2", "table3", "table4", "table5", "tableA"]
    assert found["tables"]["table1"] == table.to_dict()
    assert set(found["figures"].values()) == {"drawn.png"} and len(found["figures"]) == 4
    assert all(text in result.stderr for text in ("built", "a table of text", "Kept as"))
    assert json.loads(run("reproduce", "figure2", "--json").stdout)["figures"] == {"figure2": "drawn.png"}
    assert "--dry-run" in run("reproduce", "table1", *common, "--json", "--dry-run", code=2).stderr
    assert "--root" in run("reproduce", "table1", code=2).stderr
