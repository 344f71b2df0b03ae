"""The rows of bench/results: added under their header, and never under another."""

import csv
import importlib.util
from pathlib import Path

import pytest
import torch

from cotlib.errors import UserError

spec = importlib.util.spec_from_file_location("_measure", Path(__file__).parents[1] / "bench" / "_measure.py")
measure = importlib.util.module_from_spec(spec)
spec.loader.exec_module(measure)


def test_rows_are_added_with_what_is_told_of_all(tmp_path):
    file = tmp_path / "results" / "x.csv"
    measure.append(file, [{"form": "a, b", "ms": "1.5"}], {"device": "one"})
    measure.append(file, [{"form": "c", "ms": "2"}, {"form": "d", "ms": "3"}], {"device": "two"})
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [tuple(row.values()) for row in rows] == [
        ("a, b", "1.5", "one"),
        ("c", "2", "two"),
        ("d", "3", "two"),
    ]


def test_a_file_with_other_columns_stays_as_it_is(tmp_path):
    file = tmp_path / "x.csv"
    file.write_text("form,ms,python\na,1,3.11\n")
    with pytest.raises(UserError, match="has the columns form, ms, python; expected form, ms, device"):
        measure.append(file, [{"form": "b", "ms": "2"}], {"device": "one"})
    assert file.read_text() == "form,ms,python\na,1,3.11\n"


def test_facts_name_device_and_versions():
    facts = measure.facts(torch.device("cpu"))
    assert "CPU cores" in facts["device"] and facts["torch"] == torch.__version__ and facts["triton"] == ""
