#!/usr/bin/env python3
"""The course in one command. Needs Python 3.11 or newer and nothing else.

    python course.py lab      open the notebooks in JupyterLab          (more arguments go to JupyterLab)
    python course.py run      execute them, write build/report.html     (for a part of them:  run 00 02)
    python course.py test     check style, library and notebooks        (more arguments go to pytest:  test -k world)
    python course.py test --browser    every notebook in a real browser  (for a part of them:  test --browser 00 02);
                                       a plain test opens three of them, where there is a browser
    python course.py bench    measure speed with every script in bench/
    python course.py site     build the readable copy, build/site/index.html
    python course.py class FOLDER    a page for the teacher from the learners' progress files
    python course.py pack FOLDER     everything a machine of the same kind needs to set the course up without network;
                                     there, give each command  --wheels FOLDER

The first call makes an environment in .venv, or completes the venv, conda or Colab environment it runs in;
later calls start at once. What pip says goes to build/setup.log. A call that was cut short is repaired by the next.

One surprise shapes this file: on Linux `pip install torch` fetches 3 GB of CUDA libraries even where there is
no graphics card. So the CPU build is tried first there, and nothing large is fetched without saying so.
"""

import argparse
import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent
LOG = ROOT / "build" / "setup.log"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
OLDEST_PYTHON = (3, 11)
NEWER_PYTHONS = ("python3.14", "python3.13", "python3.12", "python3.11")
OLDEST_TORCH = (2, 9)
EVERYTHING = ".[lab,test,gpu,published,site]"
BUSY = "being installed"  # the stamp while pip works; still there at the next call: that run was cut short


class SetupError(Exception):
    """The environment cannot be made; the message is one sentence for the user."""


# ---------------------------------------------------------------------------------------------- decisions
# Functions of their arguments alone, tested in tests/test_course.py. The syntax of this file is Python 3.6's, so
# that an old Python gets as far as the sentence in refusal().


def refusal(version, system: str, machine: str, which=shutil.which) -> "str | None":
    """Why the course cannot run on this Python, in one sentence, or None."""
    if tuple(version[:2]) < OLDEST_PYTHON:
        newer = next((name for name in NEWER_PYTHONS if which(name)), None)
        advice = f"start it with {newer}, which is here" if newer else "get one at https://www.python.org"
        return f"This is Python {version[0]}.{version[1]}; the course needs 3.11 or newer: {advice}"
    if system == "Darwin" and machine == "x86_64":
        return "PyTorch has no current build for Macs with an Intel processor; use Colab or another computer"
    return None


class Place(NamedTuple):
    """An environment: its Python, its folder, and whether it is our own .venv, to delete and make again."""

    python: Path
    prefix: Path
    ours: bool

    @property
    def stamp(self) -> Path:
        return self.prefix / ".course-stamp"


def find_place(root: Path, prefix: Path, base_prefix: Path, executable: Path, environ) -> Place:
    """The environment this Python belongs to (venv, conda, Colab), else .venv. Conda's base is left alone."""
    own = root / ".venv"
    conda = (prefix / "conda-meta").is_dir() and not (prefix / "condabin").is_dir()
    inside = prefix != base_prefix or conda or "COLAB_RELEASE_TAG" in environ
    if inside and prefix.resolve() != own.resolve():
        return Place(executable, prefix, ours=False)
    return Place(own / ("Scripts/python.exe" if os.name == "nt" else "bin/python"), own, ours=True)


def fingerprint(root: Path) -> str:
    """Changes when the environment must be brought up to date: dependencies, constraints, the clone's place."""
    files = b"".join((root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt"))
    return hashlib.sha256(files + str(root).encode()).hexdigest()[:16]


def state_of(place: Place, wanted: str, runs) -> str:
    """One of "missing", "broken" (make it again), "usable" (pip can complete it), "ready".
    runs(*arguments): whether the environment's Python runs with them."""
    if not place.prefix.exists():
        return "missing"
    stamp = place.stamp.read_text("utf-8").strip() if place.stamp.is_file() else ""
    if place.ours and (stamp == BUSY or not runs("-c", "pass")):
        return "broken"
    return "ready" if stamp == wanted else "usable"


def new_enough(torch_version: "str | None") -> bool:
    return bool(torch_version) and tuple(map(int, re.findall(r"\d+", torch_version)[:2])) >= OLDEST_TORCH


class Route(NamedTuple):
    """How PyTorch gets here: pip's arguments (none: it is here already), download and disk in GB."""

    what: str
    arguments: tuple = ()
    fetch: float = 0.0
    disk: float = 0.0


def choose_torch(
    pin: str, spec, installed, system: str, nvidia: bool, cpu_index_up, offered, wheels=False
) -> Route:
    """The way to PyTorch. pin: the tested version, "torch==X"; spec: what the user asked for, or None; installed:
    the version that is here, or None; cpu_index_up() probes PyTorch's CPU index; offered() is what pip lists; wheels:
    whether everything comes from a folder."""
    if spec:
        return Route(f"{spec}, as asked", tuple(shlex.split(spec, posix=os.name != "nt")), 0.2, 1.0)
    if installed and new_enough(installed):
        return Route(f"{installed} is here already and stays")
    if wheels:
        return Route("from the folder", (pin,), 0.0, 1.0)
    if system != "Linux":
        return Route("about 0.15 GB to fetch", (pin,), 0.15, 0.8)
    if not nvidia and cpu_index_up():
        return Route("the CPU build, about 0.2 GB to fetch", (pin, "--index-url", CPU_INDEX), 0.2, 1.0)
    if not nvidia and f"{pin.split('==')[-1]}+cpu" in offered():
        return Route("a CPU build that this machine offers, about 0.2 GB", (pin,), 0.2, 1.0)
    why = "for the NVIDIA card" if nvidia else f"as {CPU_INDEX} cannot be reached"
    return Route(f"the CUDA build {why}, about 3 GB to fetch", (pin,), 3.0, 5.5)


def constraints_for(committed: str, torch_version: str, ours: bool) -> str:
    """The versions pip must keep to: the tested ones in our .venv, in anybody else's only the torch it has. Another
    torch than the tested one brings or asks for a Triton of its own."""
    is_tested = f"torch=={torch_version.split('+')[0]}" in committed.splitlines()
    dropped = ("torch==",) if is_tested else ("torch==", "triton==")
    tested = [line for line in committed.splitlines() if ours and not line.startswith(dropped)]
    return "\n".join([*tested, f"torch=={torch_version}", ""])


def minutes(gigabytes: float, unpacking: float) -> str:
    """A plain estimate: 50 Mbit/s (6 MB a second) for the download, `unpacking` seconds for the rest."""
    return f"about {max(1, round((gigabytes * 1000 / 6 + unpacking) / 60))} min on a 50 Mbit/s line"


DISK_FULL = "The disk is full: free about 3.2 GB"
NO_NETWORK = (
    "The package index cannot be reached: connect to the network, or set HTTPS_PROXY or PIP_INDEX_URL"
)
NO_VENV = "This Python cannot make environments: install its venv package (Debian: apt install python3-venv)"
TROUBLE = {
    r"No space left on device|Errno 28|WinError 112": DISK_FULL,
    r"NewConnectionError|NameResolutionError|Failed to resolve|Temporary failure in name|getaddrinfo failed": NO_NETWORK,
    r"Network is unreachable|ConnectTimeout|Read timed out|ProxyError|Connection reset|Max retries": NO_NETWORK,
    r"ensurepip": NO_VENV,
    r"Permission denied|Errno 13|WinError (?:5|32)\b": "A file may not be written: close programs that use .venv",
    r"distribution found for (\S+)": "There is no {} for this Python and system: use Python 3.11 to 3.14",
}


def explain(log: str, wheels=False) -> str:
    """One sentence for what went wrong, from pip's words. wheels: whether everything comes from a folder."""
    absent = re.search(r"distribution found for (\S+)", log)
    if wheels and absent:
        return f"The folder holds no {absent[1]} for this Python and system: pack it on a machine of the same kind"
    for pattern, sentence in TROUBLE.items():
        match = re.search(pattern, log)
        if match:
            return sentence.format(*match.groups())
    errors = (
        [line for line in log.splitlines() if "error" in line.lower()] or log.splitlines() or ["no output"]
    )
    return f"Setting up failed: {errors[-1].strip()[:200]}"


def stand_ins(home: Path, folder: Path) -> dict:
    """Where Jupyter, IPython, matplotlib and the course keep their files instead, if the home folder takes none; makes
    that folder then."""
    try:
        with tempfile.TemporaryFile(dir=str(home)):
            return {}
    except OSError:
        with suppress(OSError):  # where no file may be written at all, what needs one says so itself
            folder.mkdir(parents=True, exist_ok=True)
        names = (
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_DATA_DIR",
            "JUPYTER_RUNTIME_DIR",
            "IPYTHONDIR",
            "MPLCONFIGDIR",
        )
        places = {name: str(folder / name.lower()) for name in names}
        return dict(places, COTLIB_PROGRESS=str(folder / "progress.json"))


# ---------------------------------------------------------------------------------------------- making it so


def reachable(url: str, seconds: float = 3.0) -> bool:
    """Whether the address answers in time. In a thread, as looking up a name has no time limit of its own."""
    answers = []

    def ask():
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds) as reply:
                answers.append(reply.status < 400)
        except OSError:
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return any(answers)


def has_nvidia_driver() -> bool:
    paths = ["/proc/driver/nvidia/version", "/dev/nvidia0", "/usr/lib/wsl/lib/nvidia-smi"]
    return any(os.path.exists(path) for path in paths) or shutil.which("nvidia-smi") is not None


def output(*command) -> "str | None":
    """What a command prints, or None when it fails."""
    try:
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def runs(python, *arguments) -> bool:
    return output(python, *arguments) is not None


def imported_torch(python) -> "str | None":
    """Version of the torch that this Python can import, as pip counts it, or None. The CUDA build on PyPI calls itself
    2.13.0+cu130 and is 2.13.0 to pip, which finds no other name in a constraint."""
    return output(
        python, "-c", "import torch; from importlib.metadata import version; print(version('torch'))"
    )


def need_disk(folder: Path, gigabytes: float) -> None:
    free = shutil.disk_usage(folder).free / 1e9
    if free < gigabytes:
        raise SetupError(f"{free:.1f} GB are free here, about {gigabytes:.1f} GB are needed: free some space")


def stage(title: str, expected: str, command: list) -> None:
    """Run one command, its output into the log, a clock on the screen; SetupError with the reason if it fails."""
    print(f"  {title} ({expected})", flush=True)
    start, watched = time.time(), sys.stdout.isatty()
    command = [str(part) for part in command]
    with open(LOG, "a+", encoding="utf-8", errors="replace") as log:
        print("\n$", *command, file=log, flush=True)
        begin = log.tell()
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    process.wait(1 if watched else 30)
                    break
                except subprocess.TimeoutExpired:
                    print(f"    {time.time() - start:.0f} s ...", end="\r" if watched else "\n", flush=True)
        finally:
            process.kill()  # when this script is stopped, so is the command; after its end this does nothing
        log.seek(begin)
        said = log.read()
    if process.returncode:
        raise SetupError(explain(said, wheels="PIP_NO_INDEX" in os.environ))
    print(f"    done in {time.time() - start:.0f} s", flush=True)


def make_venv(place: Place, state: str) -> None:
    """A fresh .venv. Where the Python outside already has PyTorch, the new environment looks through to it."""
    if state == "broken":
        print("  .venv was left half made: making it again")
        shutil.rmtree(place.prefix, ignore_errors=True)
        if place.prefix.exists():
            raise SetupError("The half-made .venv cannot be deleted: close programs that use it")
    outside = getattr(sys, "_base_executable", None) or sys.executable
    through = ["--system-site-packages"] if new_enough(imported_torch(outside)) else []
    stage("1/4 environment in .venv", "seconds", [outside, "-m", "venv", *through, place.prefix])


def torch_pin() -> str:
    return re.search(r"^torch==\S+", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE).group()


def torch_facts(place: Place) -> dict:
    """What `choose_torch` goes by on this machine, but for what is installed and asked for."""
    return {
        "system": platform.system(),
        "nvidia": has_nvidia_driver(),
        "offered": lambda: output(place.python, "-m", "pip", "index", "versions", "torch") or "",
        "wheels": "PIP_NO_INDEX" in os.environ,
    }


def cpu_index_up() -> bool:
    return reachable(CPU_INDEX + "/torch/")


def install_torch(place: Place, install: list, spec) -> str:
    """PyTorch by the cheapest way; returns the version that is there now."""
    pin, installed = torch_pin(), imported_torch(place.python)
    facts = torch_facts(place) | {"installed": installed}
    route = choose_torch(pin, spec, cpu_index_up=cpu_index_up, **facts)
    if not route.arguments:
        print(f"  2/4 PyTorch: {route.what}")
        return installed
    need_disk(ROOT, route.disk + 1.4)
    try:
        stage(f"2/4 PyTorch: {route.what}", minutes(route.fetch, 30), [*install, *route.arguments])
    except SetupError:
        if CPU_INDEX not in route.arguments:
            raise
        route = choose_torch(pin, None, cpu_index_up=lambda: False, **facts)
        need_disk(ROOT, route.disk + 1.4)
        stage(f"2/4 PyTorch again: {route.what}", minutes(route.fetch, 30), [*install, *route.arguments])
    version = imported_torch(place.python)
    if not version:
        raise SetupError("PyTorch was installed but cannot be imported: try another build with  --torch SPEC")
    return version


def prepare(place: Place, spec=None) -> None:
    """Make or complete the environment unless it is ready; SetupError in one sentence when that is impossible."""
    wanted = fingerprint(ROOT)
    state = state_of(place, wanted, partial(runs, place.python))
    if state == "ready" and not spec:
        return
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text(f"{time.ctime()}  Python {platform.python_version()}  {platform.platform()}\n", "utf-8")
    print(f"Setting up the course, once ({minutes(0.55, 140)}); details in {LOG.relative_to(ROOT)}")
    if state in ("missing", "broken"):
        need_disk(ROOT, 3.2)
        make_venv(place, state)
    else:
        print(f"  1/4 environment: {place.prefix}")
    pip = [place.python, "-m", "pip"]
    if not runs(*pip, "--version"):
        stage(
            "    pip is missing there, adding it", "seconds", [place.python, "-m", "ensurepip", "--upgrade"]
        )
    install = [
        *pip,
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
        "--no-compile",
    ]
    place.stamp.write_text(BUSY, "utf-8")
    try:
        version = install_torch(place, install, spec)
        pins = LOG.parent / "constraints.txt"
        committed = (ROOT / "constraints.txt").read_text("utf-8")
        pins.write_text(constraints_for(committed, version, place.ours), "utf-8")
        stage("3/4 the course's packages", minutes(0.35, 80), [*install, "-c", pins, "-e", EVERYTHING])
        everything = "import torch, transformers, jupyterlab, cotlib"
        stage("4/4 first import", "seconds", [place.python, "-P", "-c", everything])
    except SetupError as error:
        if DISK_FULL not in str(error):  # pip ended in good order: the next call goes on from what is there
            place.stamp.unlink()
        raise
    place.stamp.write_text(wanted, "utf-8")


def add_playwright(place: Place) -> None:
    """What drives the browser in the tests, 45 MB: fetched for `test` alone, and only where there is a browser.
    Without network the tests go on without it, and say so."""
    search = ROOT / "tests" / "browser" / "chrome.py"
    if runs(place.python, "-c", "import playwright") or not runs(place.python, search):
        return
    pin = re.search(r"^playwright==\S+", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE).group()
    command = [place.python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check"]
    try:
        LOG.parent.mkdir(exist_ok=True)
        stage("the driver of the browser test", minutes(0.045, 5), [*command, "--progress-bar=off", pin])
    except SetupError as error:
        print(f"{error}. The tests in the browser are left out.", flush=True)


# ---------------------------------------------------------------------------------------------- commands


def call(place: Place, *arguments) -> int:
    """Run this environment's Python in the clone's folder; its exit code. Ctrl-C is the child's business."""
    environ = dict(os.environ, PATH=f"{place.python.parent}{os.pathsep}{os.environ.get('PATH', '')}")
    process = subprocess.Popen([str(part) for part in (place.python, *arguments)], cwd=ROOT, env=environ)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def lab(place: Place, extra: list) -> int:
    """JupyterLab at the first notebook. It starts with the course's settings: it neither asks whether to fetch news
    nor looks for updates, as a class may be without network; what the user set beats them."""
    settings = [str(ROOT / "cotlib" / "lab" / "jupyter"), os.environ.get("JUPYTER_CONFIG_PATH", "")]
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, settings))
    named = [argument for argument in extra if argument.endswith(".ipynb")]
    is_root = getattr(os, "geteuid", lambda: 1)() == 0  # as in containers, where Jupyter refuses to start
    flags = ["--allow-root"] if is_root else []
    if all(ROOT in (ROOT / name).resolve().parents for name in named):  # then their links to docs/ open
        flags.append(f"--ServerApp.root_dir={ROOT}")
    if not named:  # the address that is printed leads there, too
        flags.append("--LabApp.default_url=/lab/tree/notebooks/00_welcome.ipynb")
    return call(place, "-m", "jupyterlab", *flags, *extra)


def run(place: Place, extra: list) -> int:
    return call(place, "-m", "cotlib.lab.run", *extra)


def test(place: Place, extra: list) -> int:
    """Style first, then one pytest over unit tests and notebooks, so that pytest's closing line is the last; three
    notebooks are opened in a browser, if there is one. With --browser instead: all of them, and nothing else."""
    if "--browser" in extra:
        return call(
            place, "-m", "tests.browser", *[argument for argument in extra if argument != "--browser"]
        )
    code = ["cotlib", "tests", "bench", "notebooks/src", "notebooks/conftest.py", "course.py"]
    code = [name for name in code if (ROOT / name).exists()]
    style = [call(place, "-m", "ruff", "check", *code), call(place, "-m", "ruff", "format", "--check", *code)]
    if any(style):
        print("ruff found something to tidy (above); this run fails whatever the tests say", flush=True)
    progress = ROOT / "build" / "progress_of_tests.json"  # not the learner's own
    progress.unlink(missing_ok=True)
    os.environ.update(COTLIB_HEADLESS="1", COTLIB_PROGRESS=str(progress), COTLIB_BROWSER="few")
    notebooks = sorted(str(page.relative_to(ROOT)) for page in ROOT.glob("notebooks/*.ipynb"))
    named = any(re.search(r"\.(py|ipynb)\b", argument) for argument in extra)
    options = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "400"]
    tests = call(place, "-m", "pytest", *options, *([] if named else ["tests", *notebooks]), *extra)
    return tests or max(style)


def site(place: Place, extra: list) -> int:
    return call(place, "-m", "cotlib.lab.site", *extra)


def pack(place: Place, extra: list) -> int:
    """Everything that a set-up fetches, into a folder: PyTorch first, so that the rest is chosen to suit it."""
    if len(extra) != 1 or extra[0].startswith("-"):
        print("course.py: pack takes one folder, for example  python course.py pack wheels", file=sys.stderr)
        return 2
    folder = Path(extra[0]).resolve()
    route = choose_torch(torch_pin(), None, None, cpu_index_up=cpu_index_up, **torch_facts(place))
    download = [place.python, "-m", "pip", "download", "--no-input", "--disable-pip-version-check"]
    download += ["--progress-bar=off", "--dest", folder]
    pins = LOG.parent / "packed.txt"
    try:
        need_disk(ROOT, route.fetch + 0.6)
        folder.mkdir(parents=True, exist_ok=True)
        LOG.parent.mkdir(exist_ok=True)
        stage(f"1/2 PyTorch: {route.what}", minutes(route.fetch, 5), [*download, *route.arguments])
        version = max(folder.glob("torch-*.whl"), key=lambda wheel: wheel.stat().st_mtime).name.split("-")[1]
        pins.write_text(
            constraints_for((ROOT / "constraints.txt").read_text("utf-8"), version, True), "utf-8"
        )
        rest = [*download, "--find-links", folder, "-c", pins, EVERYTHING, "hatchling", "editables"]
        stage("2/2 the course's packages", minutes(0.35, 20), rest)
    except (SetupError, OSError) as error:
        sentence = error if isinstance(error, SetupError) else explain(str(error))
        print(f"course.py: {sentence}. Then give the same command again.", file=sys.stderr)
        return 1
    size = sum(wheel.stat().st_size for wheel in folder.iterdir()) / 1e9
    print(f"{size:.1f} GB in {folder}. On a machine of the same kind:  python course.py lab --wheels FOLDER")
    return 0


def classroom(place: Place, extra: list) -> int:
    return call(place, "-m", "cotlib.lab.classroom", *extra)


def bench(place: Place, extra: list) -> int:
    scripts = sorted(path for path in ROOT.glob("bench/*.py") if not path.name.startswith("_"))
    if not scripts:
        print("bench/ holds no script yet: nothing to measure")
    codes = []
    for script in scripts:
        print(f"--- {script.name}", flush=True)
        codes.append(call(place, script, *extra))
    return max(codes, default=0)


COMMANDS = {
    "lab": lab,
    "run": run,
    "test": test,
    "bench": bench,
    "site": site,
    "class": classroom,
    "pack": pack,
}


def main(argv=None) -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("course.py", None, __doc__, formatter_class=form, allow_abbrev=False)
    parser.add_argument("command", nargs="?", choices=COMMANDS, help="further arguments are passed on to it")
    parser.add_argument("--torch", metavar="SPEC", help="install this PyTorch: torch==2.11.0, a wheel file")
    parser.add_argument(
        "--wheels", metavar="FOLDER", help="install from this folder, without network (see pack)"
    )
    parser.add_argument("--no-setup", action="store_true", help="use this Python as it is, install nothing")
    options, extra = parser.parse_known_args(argv)
    if options.command is None:
        parser.print_help()
        return 2
    reason = refusal(sys.version_info, platform.system(), platform.machine())
    if reason:
        print(f"course.py: {reason}", file=sys.stderr)
        return 1
    place = Place(Path(sys.executable), Path(sys.prefix), ours=False)
    if options.wheels:
        folder = Path(options.wheels).resolve()
        if not any(folder.glob("*.whl")):
            print(
                f"course.py: {folder} holds no wheels; make it with  python course.py pack", file=sys.stderr
            )
            return 1
        os.environ.update(
            PIP_NO_INDEX="1", PIP_FIND_LINKS=folder.as_uri()
        )  # pip splits a plain path at spaces
    try:
        if options.no_setup:
            known = os.environ.get("PYTHONPATH")
            os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{known}" if known else str(ROOT)
        else:
            place = find_place(ROOT, Path(sys.prefix), Path(sys.base_prefix), place.python, os.environ)
            prepare(place, options.torch)
            if options.command == "test":
                add_playwright(place)
    except (SetupError, OSError) as error:
        sentence = error if isinstance(error, SetupError) else explain(str(error))
        print(f"course.py: {sentence}. Then give the same command again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ncourse.py: stopped; the same command starts again.", file=sys.stderr)
        return 130
    for name, folder in stand_ins(Path.home(), ROOT / "build" / "home").items():
        os.environ.setdefault(name, folder)
    return COMMANDS[options.command](place, extra)


if __name__ == "__main__":
    sys.exit(main())
