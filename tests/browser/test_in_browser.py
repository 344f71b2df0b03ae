"""Every notebook in JupyterLab in a real browser; and notebooks with faults on purpose, each of which must be seen.

`python course.py test --browser` visits all notebooks (COTLIB_BROWSER=all), `python course.py test` a few that have
every kind of control between them (COTLIB_BROWSER=few); pytest alone visits none. Two visits at a time go on in the
background, a test waits for its own.
"""

import os
from pathlib import Path

import nbformat.v4 as v4
import pytest
from nbformat import write

from cotlib.errors import UserError

from .chrome import browser_path
from .conftest import PAGES
from .visit import visits, why_not_started

ASKED = os.environ.get("COTLIB_BROWSER", "")
FEW = ("00", "01", "11")  # numbers of the notebooks that stand for all
NOTEBOOKS = sorted(Path(__file__).resolve().parents[2].glob("notebooks/*.ipynb"))


def why_not() -> str:
    """Why no browser is started; "" when one is."""
    if ASKED not in ("few", "all"):
        return "not asked for; ask with  python course.py test --browser"
    try:
        browser_path()
    except UserError as error:
        return f"no notebook is opened in a browser: {error}"
    return ""


if reason := why_not():
    pytest.skip(reason, allow_module_level=True)


def is_visited(name: str) -> bool:
    return ASKED == "all" or name.startswith((*FEW, "98", "99"))


def notebook_parameters() -> list:
    later = pytest.mark.skip(reason="only with  python course.py test --browser")
    names = [path.stem for path in NOTEBOOKS]
    return [pytest.param(name, marks=[] if is_visited(name) else [later], id=name) for name in names]


FAULTS = {  # what is said: the cell that does it
    "cell 2: a formula that cannot be set": r"The loss $\frac{1}{2}\right)$ is broken.",
    "cell 3: markup shown as text: $\\frac{1{2}$": r"A brace $\frac{1{2}$ is missing.",
    "cell 4: on stderr: careful": "import sys; print('careful', file=sys.stderr)",
    "cell 5: a slider moves and nothing changes": "import ipywidgets as w; display(w.VBox([w.IntSlider(), w.HTML('a')]))",
    "cell 6: exception in a widget's callback: KeyError": """
        slider, words = w.IntSlider(), w.HTML()
        slider.observe(lambda change: {}[change['new']], 'value')
        display(w.VBox([slider, words]))""",
    "cell 7: entry 2 of a list is chosen": "display(w.VBox([w.Dropdown(options=['a', 'b']), w.HTML('b')]))",
    "cell 8: button 'idle' is pressed": "display(w.VBox([w.Button(description='idle'), w.HTML('c')]))",
    "cell 9: 1 is typed into a field": "display(w.VBox([w.IntText(), w.HTML('d')]))",
    "cell 10: a box is ticked": "display(w.VBox([w.Checkbox(), w.HTML('e')]))",
    "cell 11: a player is started": "display(w.VBox([w.Play(), w.HTML('f')]))",
    "cell 12: a picture that cannot be shown": "display({'image/png': 'AAAA'}, raw=True)",
    "console error: from the console": "from IPython.display import Javascript\nJavascript(\"console.error('from the console')\")",
    "exception in the page: thrown": "Javascript(\"setTimeout(() => { throw new Error('thrown') })\")",
    "request to another host: http://example.invalid/": "from IPython.display import HTML\nHTML('<img src=\"http://example.invalid/dot.png\">')",
    "JupyterLab says: look here": "Javascript(\"jupyterapp.commands.execute('apputils:notify', {message: 'look here', options: {autoClose: false}})\")",
    "never revealed: How many?": "from cotlib.lab import predict\npredict('98-many', 'How many?', low=0, high=9)",
}  # fmt: skip
SLOW = """
slider, words = w.IntSlider(), w.HTML()
def answer(change):
    import time
    time.sleep(1.2)
    words.value = str(change['new'])
slider.observe(answer, 'value')
display(w.VBox([slider, words]))"""  # late, but no fault
RAISES = ["1 + 1", "1 / 0", "print('not reached')"]


def notebook(folder: Path, name: str, cells: list) -> Path:
    made = v4.new_notebook(cells=[v4.new_markdown_cell("# Broken on purpose"), *cells])
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path = folder / f"{name}.ipynb"
    write(made, path)
    return path


@pytest.fixture(scope="module")
def visited(request, tmp_path_factory):
    """(server, {name: future page}) for the notebooks whose tests were chosen."""
    if ASKED == "few" and (reason := why_not_started()):  # asked for by nobody, so no reason to fail
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("broken")
    sources = [source.replace("\n        ", "\n").strip() for source in FAULTS.values()]
    faulty = list(map(v4.new_markdown_cell, sources[:2])) + list(map(v4.new_code_cell, [*sources[2:], SLOW]))
    paths = {path.stem: path for path in NOTEBOOKS} | {
        "98_faults": notebook(folder, "98_faults", faulty),
        "99_raises": notebook(folder, "99_raises", list(map(v4.new_code_cell, RAISES))),
    }
    chosen = {name for item in request.session.items for name in paths if f"[{name}]" in item.nodeid}
    chosen = set(filter(is_visited, chosen))
    with visits([paths[name] for name in sorted(chosen)]) as running:
        yield running


def page_of(visited, name):
    page = visited[1][name].result()
    PAGES.append(page)
    return page


@pytest.mark.parametrize("name", notebook_parameters())
def test_notebook_works_in_the_browser(name, visited):
    page = page_of(visited, name)
    assert not page.problems, "\n".join(["", *page.problems])
    assert page.done["cells"] > 0


def test_the_few_have_every_kind_of_control_between_them(visited):
    few = [page.result() for name, page in visited[1].items() if name.startswith(FEW)]
    if len(few) < len(FEW):
        pytest.skip(f"not all of {FEW} were visited")
    assert [kind for kind in few[0].done if not any(page.done[kind] for page in few)] == []


@pytest.mark.parametrize("name", ["98_faults"])
def test_each_fault_is_seen_and_named(name, visited):
    found = page_of(visited, name).problems
    missed = [said for said in FAULTS if not any(problem.startswith(said) for problem in found)]
    assert missed == [], found
    assert not any(problem.startswith(f"cell {2 + len(FAULTS)}:") for problem in found), found


@pytest.mark.parametrize("name", ["99_raises"])
def test_an_error_ends_the_visit(name, visited):
    page = page_of(visited, name)
    assert page.problems == ["cell 3: ZeroDivisionError: division by zero"] and page.done["cells"] == 1


def test_server_and_kernels_wrote_no_other_traceback(visited):
    server, pages = visited
    for page in pages.values():
        page.exception()  # waits for the end
    wanted = ("KeyError: ",)  # of the callback that fails on purpose
    assert [line for line in server.tracebacks() if not line.startswith(wanted)] == []
