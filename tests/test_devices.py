"""How many threads work at once, and in what order their results come."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from cotlib import devices

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def eight(monkeypatch):
    """A process that may use eight cores and was told nothing."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(devices, "cores", lambda: 8)


def at_once(**arguments) -> int:
    """How many pieces of work are under way at the same time, when each takes a moment."""
    lock, moment, under_way, most = threading.Lock(), threading.Event(), 0, 0

    def work(_):
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        moment.wait(0.05)
        with lock:
            under_way -= 1

    assert list(devices.on_all_cores(work, range(20), **arguments)) == [None] * 20
    return most


def test_one_thread_for_each_core_it_may_use(eight):
    assert at_once() == 8


@pytest.mark.parametrize(
    ("asked", "threads"),
    [("3", 3), ("1", 1), ("4,2", 4), ("64", 8), ("0", 8), ("", 8), ("many", 8), ("-2", 8)],
)
def test_no_more_threads_than_omp_num_threads(eight, monkeypatch, asked, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert at_once() == threads


def test_a_number_that_is_given_counts(eight, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert at_once(threads=5) == 5


def test_results_come_in_order_and_torch_gets_its_threads_back(eight):
    before = torch.get_num_threads()
    found = list(devices.on_all_cores(lambda n: (n * n, torch.get_num_threads()), range(9)))
    assert found == [(n * n, 1) for n in range(9)]
    assert torch.get_num_threads() == before


def said(code: str, **environ: str) -> str:
    """What a fresh process prints."""
    environ = os.environ | {"PYTHONPATH": str(ROOT)} | environ
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="only Linux gives a process some of the cores"
)
def test_a_process_on_one_core_uses_one_thread():
    one = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})"
    assert said(f"{one}; from cotlib.devices import cores; print(cores())", PYTHON_CPU_COUNT="default") == "1"


@pytest.mark.skipif(sys.version_info < (3, 13), reason="Python 3.13 brought PYTHON_CPU_COUNT")
def test_python_can_be_told_how_many_cores_there_are():
    assert said("from cotlib.devices import cores; print(cores())", PYTHON_CPU_COUNT="5") == "5"
