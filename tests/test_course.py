"""course.py: its decisions with made-up machines, its repairs with a fake pip, its commands for real where quick."""

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("course", ROOT / "course.py")
course = importlib.util.module_from_spec(spec)
spec.loader.exec_module(course)

PIN = "torch==2.13.0"


# ------------------------------------------------------------------------------------------ may it run at all


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 10)])
def test_an_old_python_is_refused_in_one_sentence(version):
    reason = course.refusal(version, "Linux", "x86_64", which=lambda name: None)
    assert f"This is Python {version[0]}.{version[1]}" in reason and "3.11 or newer" in reason
    assert "\n" not in reason


def test_a_newer_python_on_the_machine_is_named():
    here = {"python3.12", "python3.11"}
    assert "start it with python3.12" in course.refusal(
        (3, 9), "Linux", "x86_64", which=lambda name: name in here
    )


def test_intel_macs_are_refused_and_the_rest_is_not():
    assert "Intel" in course.refusal((3, 12), "Darwin", "x86_64")
    for system, machine in [("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")]:
        assert course.refusal((3, 11), system, machine) is None


def test_the_script_parses_on_old_pythons_and_needs_only_the_standard_library():
    tree = ast.parse((ROOT / "course.py").read_text("utf-8"), feature_version=(3, 7))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = [node.module if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    assert "__future__" not in names  # "annotations" would be a syntax error on 3.6
    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


# ------------------------------------------------------------------------------------------ which environment


def test_outside_any_environment_it_is_dot_venv(tmp_path):
    place = course.find_place(tmp_path, Path("/usr"), Path("/usr"), Path("/usr/bin/python3"), {})
    assert place.ours and place.prefix == tmp_path / ".venv"
    assert place.python.parent.name == ("Scripts" if os.name == "nt" else "bin")


def test_a_foreign_venv_is_used_as_it_is(tmp_path):
    python = tmp_path / "else" / "bin" / "python"
    place = course.find_place(tmp_path, tmp_path / "else", Path("/usr"), python, {})
    assert place == course.Place(python, tmp_path / "else", ours=False)


def test_run_from_inside_dot_venv_it_is_still_ours(tmp_path):
    own = tmp_path / ".venv"
    assert course.find_place(tmp_path, own, Path("/usr"), own / "bin" / "python", {}).ours


def test_conda_environments_are_used_but_not_the_base(tmp_path):
    prefix = tmp_path / "conda"
    (prefix / "conda-meta").mkdir(parents=True)
    assert course.find_place(tmp_path, prefix, prefix, prefix / "python", {}).prefix == prefix
    (prefix / "condabin").mkdir()
    assert course.find_place(tmp_path, prefix, prefix, prefix / "python", {}).ours


def test_colab_is_an_environment(tmp_path):
    environ = {"COLAB_RELEASE_TAG": "release-colab_20260819"}
    assert not course.find_place(tmp_path, Path("/usr"), Path("/usr"), Path("/usr/bin/python3"), environ).ours


@pytest.mark.parametrize(
    ("stamp", "python_runs", "ours", "state"),
    [
        ("right", True, True, "ready"),
        ("outdated", True, True, "usable"),
        (None, True, True, "usable"),
        ("right", False, True, "broken"),  # the Python that made it was removed
        (course.BUSY, True, True, "broken"),  # cut short while pip worked
        (course.BUSY, True, False, "usable"),  # somebody else's: never deleted
    ],
)
def test_states_of_an_environment(tmp_path, stamp, python_runs, ours, state):
    place = course.Place(tmp_path / "python", tmp_path, ours)
    if stamp:
        place.stamp.write_text(stamp)
    assert course.state_of(place, "right", lambda *arguments: python_runs) == state


def test_no_folder_means_missing(tmp_path):
    place = course.Place(tmp_path / "no" / "python", tmp_path / "no", True)
    assert course.state_of(place, "right", lambda *arguments: True) == "missing"


def test_the_fingerprint_follows_dependencies_constraints_and_place(tmp_path):
    seen = set()
    for folder, deps, pins in [("a", "1", "1"), ("a", "2", "1"), ("a", "1", "2"), ("b", "1", "1")]:
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "pyproject.toml").write_text(deps)
        (tmp_path / folder / "constraints.txt").write_text("=" + pins)
        seen.add(course.fingerprint(tmp_path / folder))
    assert len(seen) == 4


# ------------------------------------------------------------------------------------------ which PyTorch


def route(**facts):
    def never():
        raise AssertionError("must not be asked")

    machine = dict(spec=None, installed=None, system="Linux", nvidia=False, cpu_index_up=never, offered=never)
    return course.choose_torch(PIN, **machine | facts)


def test_a_torch_in_range_stays():
    assert route(installed="2.11.0+cu128").arguments == ()
    assert route(installed="2.9.1", system="Darwin").arguments == ()


def test_a_torch_that_is_too_old_is_replaced():
    assert PIN in route(installed="2.8.0", cpu_index_up=lambda: True).arguments


def test_linux_without_a_card_takes_the_cpu_index():
    chosen = route(cpu_index_up=lambda: True)
    assert chosen.arguments == (PIN, "--index-url", course.CPU_INDEX) and chosen.fetch < 0.5


def test_without_the_cpu_index_a_cpu_wheel_of_the_machine_is_recognised():
    chosen = route(
        cpu_index_up=lambda: False, offered=lambda: "torch (2.15.0)\nAvailable: 2.15.0, 2.13.0+cpu, 2.13.0"
    )
    assert chosen.arguments == (PIN,) and "this machine offers" in chosen.what and chosen.fetch < 0.5


def test_otherwise_it_says_three_gigabytes_and_goes_on():
    chosen = route(cpu_index_up=lambda: False, offered=lambda: "Available versions: 2.15.0, 2.13.0")
    assert chosen.arguments == (PIN,) and "about 3 GB" in chosen.what and "cannot be reached" in chosen.what
    assert chosen.disk > 4


def test_a_card_gets_cuda_and_other_systems_the_default():
    assert "NVIDIA" in route(nvidia=True).what
    assert route(system="Windows", nvidia=True).fetch < 0.5
    assert route(system="Darwin").arguments == (PIN,)


def test_the_users_wish_comes_first():
    assert route(spec="torch==2.10.0 --no-deps", installed="2.13.0").arguments == (
        "torch==2.10.0",
        "--no-deps",
    )


@pytest.mark.parametrize(
    ("version", "enough"),
    [("2.9.0", True), ("2.13.0+cpu", True), ("3.0", True), ("2.8.1", False), (None, False)],
)
def test_range_of_torch(version, enough):
    assert course.new_enough(version) is enough


def test_constraints_keep_the_torch_that_is_there():
    committed = "# note\ntorch==2.13.0\nnumpy==2.4.6\n"
    assert (
        course.constraints_for(committed, "2.11.0+cpu", True).split()
        == "# note numpy==2.4.6 torch==2.11.0+cpu".split()
    )
    assert course.constraints_for(committed, "2.11.0+cpu", False) == "torch==2.11.0+cpu\n"


def test_triton_is_pinned_only_beside_the_torch_it_was_tested_with():
    committed = "torch==2.13.0\ntriton==3.7.1\n"
    assert "triton==3.7.1" in course.constraints_for(committed, "2.13.0+cpu", True)
    assert "triton" not in course.constraints_for(committed, "2.11.0+cu128", True)


def test_lab_serves_the_whole_course_but_for_somebody_elses_notebook(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(course, "call", lambda place, *arguments: asked.append(arguments) or 0)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "")
    whole = f"--ServerApp.root_dir={ROOT}"
    for extra in (
        [],
        ["--no-browser"],
        ["notebooks/04_orm.ipynb"],
        [str(ROOT / "notebooks" / "04_orm.ipynb")],
    ):
        course.lab(None, extra)
        (page,) = [argument for argument in asked[-1] if argument.endswith(".ipynb")]
        assert whole in asked[-1] and (ROOT / page.removeprefix("--LabApp.default_url=/lab/tree/")).is_file()
    course.lab(None, [str(tmp_path / "theirs.ipynb")])
    assert whole not in asked[-1]


def test_torch_has_the_version_that_pip_goes_by(tmp_path, monkeypatch):
    """As with the CUDA build on PyPI, whose own name has a part that pip would not find."""
    (tmp_path / "torch.py").write_text("__version__ = '2.13.0+cu130'", "utf-8")
    (tmp_path / "torch-2.13.0.dist-info").mkdir()
    about = "Metadata-Version: 2.1\nName: torch\nVersion: 2.13.0\n"
    (tmp_path / "torch-2.13.0.dist-info" / "METADATA").write_text(about, "utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert course.imported_torch(sys.executable) == "2.13.0"
    (tmp_path / "torch.py").write_text("import no_such_library", "utf-8")
    assert course.imported_torch(sys.executable) is None


def test_a_home_that_takes_no_files_is_replaced(tmp_path):
    assert course.stand_ins(tmp_path, tmp_path / "build") == {} and list(tmp_path.iterdir()) == []
    there = course.stand_ins(tmp_path / "none", tmp_path / "build")
    assert {"JUPYTER_RUNTIME_DIR", "IPYTHONDIR", "COTLIB_PROGRESS"} <= there.keys()
    assert all(Path(folder).parent == tmp_path / "build" for folder in there.values())
    Path(there["COTLIB_PROGRESS"]).write_text("{}", "utf-8")


def test_lab_starts_with_settings_that_the_user_can_add_to(monkeypatch):
    seen = {}
    monkeypatch.setattr(course, "call", lambda place, *arguments: seen.update(os.environ) or 0)
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "theirs")
    assert course.lab(None, []) == 0
    ours, theirs = seen["JUPYTER_CONFIG_PATH"].split(os.pathsep)
    assert theirs == "theirs"
    settings = json.loads((Path(ours) / "labconfig" / "default_setting_overrides.json").read_text("utf-8"))
    assert settings["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_an_unreachable_index_is_found_out_quickly():
    assert not course.reachable("http://127.0.0.1:9/", seconds=1)


def test_numbers_agree_with_the_other_files():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["requires-python"] == ">={}.{}".format(*course.OLDEST_PYTHON)
    assert "torch>={}.{}".format(*course.OLDEST_TORCH) in project["dependencies"]
    assert len(re.findall(r"^torch==\S+$", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)) == 1


# ------------------------------------------------------------------------------------------ trouble and repair


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            "WARNING: Retrying ... NewConnectionError('...')\nERROR: No matching distribution found for torch",
            "cannot be reached",
        ),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "cannot be reached"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk is full",
        ),
        (
            "because ensurepip is not\navailable. On Debian/Ubuntu systems, you need to install",
            "python3-venv",
        ),
        ("ERROR: Could not install: [Errno 13] Permission denied: 'x'", "may not be written"),
        ("ERROR: No matching distribution found for torch==2.13.0", "no torch==2.13.0 for this Python"),
        ("something\nerror: something odd\nbye", "something odd"),
        ("", "no output"),
    ],
)
def test_pips_words_become_one_sentence(log, words):
    sentence = course.explain(log)
    assert words in sentence and "\n" not in sentence and len(sentence) < 300


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A clone in tmp_path on a machine without network or pip: stages succeed or fail as the test says."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setattr(course, "LOG", tmp_path / "build" / "setup.log")
    monkeypatch.setattr(course, "reachable", lambda url: True)
    monkeypatch.setattr(course, "has_nvidia_driver", lambda: False)
    place = course.find_place(tmp_path, Path("/usr"), Path("/usr"), Path("/usr/bin/python3"), {})
    done, trouble, torch = [], {}, []

    def stage(title, expected, command):
        for word, error in trouble.items():
            if word in title:
                raise error
        done.append(title.split()[0])
        if "venv" in command:
            place.python.parent.mkdir(parents=True)
            place.python.write_text("")
        if any(str(part).startswith("torch==") for part in command):
            torch.append("2.13.0+cpu")

    monkeypatch.setattr(course, "stage", stage)
    monkeypatch.setattr(
        course, "imported_torch", lambda python: torch[-1] if torch and python == place.python else None
    )
    monkeypatch.setattr(course, "runs", lambda python, *arguments: place.python.exists())
    return namedtuple("Machine", "place done trouble")(place, done, trouble)


def test_a_first_call_makes_everything_and_a_second_nothing(machine):
    course.prepare(machine.place)
    assert machine.done == ["1/4", "2/4", "3/4", "4/4"]
    assert machine.place.stamp.read_text() == course.fingerprint(course.ROOT)
    course.prepare(machine.place)
    assert len(machine.done) == 4
    assert "torch==2.13.0+cpu" in (course.LOG.parent / "constraints.txt").read_text()


def test_after_a_failure_the_next_call_goes_on(machine):
    machine.trouble["3/4"] = course.SetupError(course.NO_NETWORK)
    with pytest.raises(course.SetupError, match="cannot be reached"):
        course.prepare(machine.place)
    machine.trouble.clear()
    course.prepare(machine.place)
    assert machine.done == ["1/4", "2/4", "3/4", "4/4"]  # PyTorch was kept


@pytest.mark.parametrize("error", [KeyboardInterrupt(), course.SetupError(course.DISK_FULL)])
def test_after_a_cut_the_next_call_begins_anew(machine, error):
    machine.trouble["3/4"] = error
    with pytest.raises(type(error)):
        course.prepare(machine.place)
    (machine.place.prefix / "half").write_text("unpacked")
    machine.trouble.clear()
    course.prepare(machine.place)
    assert machine.done.count("1/4") == 2
    assert not (machine.place.prefix / "half").exists()


def test_a_venv_without_its_python_is_made_again(machine):
    course.prepare(machine.place)
    machine.place.python.unlink()
    course.prepare(machine.place)
    assert machine.done.count("1/4") == 2


def test_when_the_cpu_index_fails_the_default_one_is_tried(machine, monkeypatch, capsys):
    monkeypatch.setattr(course, "output", lambda *command: "2.13.0")
    machine.trouble["the CPU build"] = course.SetupError("no torch==2.13.0 there")
    course.prepare(machine.place)
    assert machine.done == ["1/4", "2/4", "3/4", "4/4"]


def test_a_small_disk_is_noticed_before_anything_is_made(machine, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(course.shutil, "disk_usage", lambda folder: usage(9e9, 8e9, 1e9))
    with pytest.raises(course.SetupError, match=r"1\.0 GB are free here, about 3\.2 GB are needed"):
        course.prepare(machine.place)
    assert machine.done == [] and not machine.place.prefix.exists()


def test_trouble_ends_with_one_line_and_a_code(machine, monkeypatch, capsys):
    machine.trouble["1/4"] = course.SetupError(course.NO_VENV)
    monkeypatch.setattr(course, "find_place", lambda *facts: machine.place)
    assert course.main(["test"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        line.startswith("course.py: This Python cannot make environments")
        and "the same command again" in line
    )


def test_a_folder_of_wheels_is_all_that_pip_sees(machine, monkeypatch, tmp_path, capsys):
    commands = []
    staged = course.stage
    monkeypatch.setattr(
        course,
        "stage",
        lambda title, expected, command: (commands.append(command), staged(title, expected, command)),
    )
    monkeypatch.setattr(course, "find_place", lambda *facts: machine.place)
    monkeypatch.setattr(course, "reachable", lambda url: pytest.fail("the network was asked"))
    monkeypatch.setattr(course, "call", lambda place, *arguments: 0)
    monkeypatch.setattr(course.os, "environ", dict(course.os.environ))
    wheels = tmp_path / "memory stick"
    wheels.mkdir()
    assert course.main(["lab", "--wheels", str(wheels)]) == 1
    assert "holds no wheels" in capsys.readouterr().err and not commands
    (wheels / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    assert course.main(["lab", "--wheels", str(wheels)]) == 0
    assert course.os.environ["PIP_NO_INDEX"] == "1" and " " not in course.os.environ["PIP_FIND_LINKS"]
    assert [part for part in map(str, commands[1]) if "torch" in part or "index" in part] == [
        course.torch_pin()
    ]


def test_wheels_for_another_machine_are_named():
    said = course.explain("ERROR: No matching distribution found for torch==2.13.0", wheels=True)
    assert "folder holds no torch==2.13.0" in said


def test_pack_fetches_torch_first_and_the_rest_to_suit_it(machine, monkeypatch, tmp_path, capsys):
    folder, commands = tmp_path / "out" / "wheels", []

    def stage(title, expected, command):
        commands.append(list(map(str, command)))
        (folder / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()

    monkeypatch.setattr(course, "stage", stage)
    assert course.pack(machine.place, []) == 2
    assert course.pack(machine.place, [str(folder)]) == 0
    assert course.CPU_INDEX in commands[0] and course.EVERYTHING in commands[1] and "hatchling" in commands[1]
    pins = commands[1][commands[1].index("-c") + 1]
    assert "torch==2.13.0+cpu" in Path(pins).read_text() and str(folder) in capsys.readouterr().out


def test_a_failing_command_is_explained_from_its_log(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(course, "LOG", tmp_path / "setup.log")
    words = "import sys; sys.exit('ERROR: [Errno 28] No space left on device')"
    with pytest.raises(course.SetupError, match="disk is full"):
        course.stage("title", "seconds", [sys.executable, "-c", words])
    course.stage(
        "title", "seconds", [sys.executable, "-c", "print('fine')"]
    )  # old trouble is not found again
    assert "done in" in capsys.readouterr().out
    assert "No space left" in course.LOG.read_text()


# ------------------------------------------------------------------------------------------ the commands


def script(*arguments, cwd=ROOT):
    command = [sys.executable, ROOT / "course.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def test_help_names_all_commands_and_works_from_anywhere(tmp_path):
    told = script("--help", cwd=tmp_path)
    assert told.returncode == 0
    for word in ("lab", "run", "test", "bench", "--torch", "build/report.html"):
        assert word in told.stdout
    assert script("dance").returncode == 2
    assert "lab" in script().stdout


def test_arguments_are_passed_on(monkeypatch):
    calls = []
    monkeypatch.setattr(course, "call", lambda place, *arguments: calls.append(arguments) or 0)
    assert course.main(["--no-setup", "test", "-k", "not slow", "-x"]) == 0
    assert calls[-1][-3:] == ("-k", "not slow", "-x") and "--nbval-lax" in calls[-1]
    course.main(["--no-setup", "test", "tests/test_course.py"])
    assert "tests" not in calls[-1]
    course.main(["--no-setup", "test", "--browser", "00"])
    assert calls[-1] == ("-m", "tests.browser", "00")
    course.main(["--no-setup", "lab", "--port", "9999"])
    assert calls[-1][-2:] == ("--port", "9999") and calls[-1][-3].endswith("notebooks/00_welcome.ipynb")
    course.main(["--no-setup", "run", "00", "02"])
    assert calls[-1] == ("-m", "cotlib.lab.run", "00", "02")


@pytest.mark.parametrize(
    ("has_playwright", "has_browser", "fetches"), [(True, True, 0), (False, False, 0), (False, True, 1)]
)
def test_playwright_is_fetched_only_where_there_is_a_browser(
    has_playwright, has_browser, fetches, monkeypatch
):
    def runs(python, *arguments):
        return has_playwright if "import playwright" in arguments else has_browser

    staged = []
    monkeypatch.setattr(course, "runs", runs)
    monkeypatch.setattr(course, "stage", lambda title, expected, command: staged.append(command))
    course.add_playwright(course.Place(Path(sys.executable), Path(sys.prefix), ours=False))
    assert len(staged) == fetches and all(re.fullmatch(r"playwright==[\d.]+", c[-1]) for c in staged)


def test_without_network_the_tests_go_on_without_playwright(monkeypatch, capsys):
    def stage(*_):
        raise course.SetupError(course.NO_NETWORK)

    monkeypatch.setattr(course, "runs", lambda python, *arguments: "import playwright" not in arguments)
    monkeypatch.setattr(course, "stage", stage)
    course.add_playwright(course.Place(Path(sys.executable), Path(sys.prefix), ours=False))
    assert "cannot be reached" in capsys.readouterr().out


def test_untidy_code_fails_the_test_command_even_when_all_tests_pass(monkeypatch):
    monkeypatch.setattr(course, "call", lambda place, *arguments: int("ruff" in arguments))
    assert course.main(["--no-setup", "test"]) == 1


def test_bench_says_when_there_is_nothing(machine, monkeypatch, capsys):
    assert course.main(["--no-setup", "bench"]) == 0
    assert "no script yet" in capsys.readouterr().out
