"""The teacher's guide: its generated parts, and what its plans say about the notebooks."""

import re
from pathlib import Path

import pytest

from cotlib.lab import readme, teaching
from cotlib.lab.exercises import NOTEBOOK, REGISTRY

TEXT = teaching.PAGE.read_text("utf-8")
FOUND = teaching.lessons()
TASKS = {task.name: task for one in FOUND for task in one.tasks}


def plans() -> dict[str, list[list[str]]]:
    """Rows of cells of each table with minutes, by the heading above it."""
    tables, heading, taking = {}, "", False
    for line in TEXT.splitlines():
        if line.startswith("#"):
            heading = line.strip("# ")
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| part |") and cells[1] in ("50", "minutes"):
            tables[heading], taking = [], True
        elif not line.startswith("|"):
            taking = False
        elif taking and "---" not in line:
            tables[heading].append(cells)
    return tables


def numbers(cells: list[str]) -> list[int]:
    return [0 if cell == "–" else int(cell) for cell in cells]


def test_the_guide_is_what_the_command_writes():
    assert teaching.filled(TEXT) == TEXT, "run python -m cotlib.lab.teaching"


def test_the_command_writes_what_was_changed_by_hand_and_finds_it(tmp_path, monkeypatch):
    page = tmp_path / "TEACHING.md"
    page.write_text(TEXT.replace("| 00 |", "| 0O |").replace(" GB |", " MB |"), "utf-8")
    monkeypatch.setattr(teaching, "PAGE", page)
    assert teaching.main(["--check"]) == 1
    assert teaching.main([]) == 0 and teaching.main(["--check"]) == 0
    assert page.read_text("utf-8").count(" GB |") == TEXT.count(" GB |")


def test_minutes_and_difficulty_come_from_the_headings_of_the_notebooks():
    source = "".join(path.read_text("utf-8") for path in sorted(readme.ROOT.glob("notebooks/src/*.py")))
    for task in TASKS.values():
        before = source[: source.index(f'\ncheck("{task.name}"')]
        last = before[before.rindex("# ### Exercise") :].splitlines()[0]
        assert last.endswith(
            f": {task.title} · difficulty {task.difficulty} of 5 · {task.minutes} minutes"
        ), last


def test_every_exercise_of_the_built_notebooks_has_its_row():
    built = {one.path.name[:2] for one in FOUND}
    assert set(TASKS) == {name for name, number in NOTEBOOK.items() if number in built}
    table = teaching.mistakes_table(FOUND)
    for name in TASKS:
        [row] = [line for line in table.splitlines() if f"`{name}` |" in line]
        assert all(mistake.name.replace("|", r"\|") in row for mistake in REGISTRY[name].mistakes)
        assert sum(mistake.hint.replace("|", r"\|") in row for mistake in REGISTRY[name].mistakes) >= 1


def test_the_mistakes_to_talk_about_are_known_to_the_checks():
    for name, chosen in teaching.TALK.items():
        assert chosen in [mistake.name for mistake in REGISTRY[name].mistakes], (name, chosen)


def test_times_are_sums():
    one = teaching.Lesson(
        Path("x"), 1200, 4, 5, (teaching.Task("a", "A", 1, 5), teaching.Task("b", "B", 2, 10)), 120.0, 1.01
    )
    assert one.reading == pytest.approx(10 + 2) and one.alone == pytest.approx(12 + 5 + 2 + 15)


def test_memory_of_a_class_is_the_measured_peak_times_forty(monkeypatch):
    monkeypatch.setattr(teaching, "title_of", lambda path: "X")
    table = teaching.times_table([teaching.Lesson(Path("x.ipynb"), 10, 0, 0, (), 21.4, 1.01)])
    assert "| 21 s | 1.0 GB | 41 GB | 5 min | 0 | – | 5 min |" in table


@pytest.mark.parametrize("heading", plans())
def test_the_minutes_of_a_plan_add_up(heading):
    columns = list(zip(*(numbers(row[1:]) for row in plans()[heading]), strict=True))
    assert [sum(column) for column in columns] == ([50, 90] if len(columns) == 2 else [90])


def test_every_notebook_has_a_plan():
    known = [heading[:2] for heading in plans() if heading[:2].isdigit()]
    assert known == sorted(known) and {one.path.name[:2] for one in FOUND} <= set(known)


def test_a_plan_gives_an_exercise_at_least_its_minutes():
    given = 0
    for heading, rows in plans().items():
        for row in rows:
            for name in re.findall(r"exercise `(\w+)`", row[0], re.IGNORECASE):
                if name not in TASKS:
                    assert heading[:2] not in {one.path.name[:2] for one in FOUND}
                    continue
                assert NOTEBOOK[name] == heading[:2]
                only_long = "In 90 minutes exercise" in row[0] or "in 90 minutes exercise" in row[0]
                for minutes in numbers(row[1:])[only_long:]:
                    assert minutes == 0 or minutes > TASKS[name].minutes, row
                    given += minutes > 0
    assert given > 20


def test_predictions_named_in_the_guide_are_asked_in_that_notebook():
    notebooks = {path.name[:2]: path.read_text("utf-8") for path in readme.ROOT.glob("notebooks/src/*.py")}
    keys = re.findall(r"`(\d\d-[a-z-]+)`", TEXT)
    assert len(keys) > 40
    for key in keys:
        assert f'"{key}"' in notebooks[key[:2]], key


def test_sections_named_in_the_plans_exist():
    notebooks = {path.name[:2]: path.read_text("utf-8") for path in readme.ROOT.glob("notebooks/src/*.py")}
    for heading, rows in plans().items():
        for row in rows:
            for group in re.findall(r"\(([\d., ]+)\)", row[0]):
                for section in group.split(", "):
                    assert re.search(
                        rf"^# ###? {re.escape(section)} ", notebooks[heading[:2]], re.MULTILINE
                    ), row


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#\s]+)\)", TEXT):
        assert target.startswith("https://") or (teaching.PAGE.parent / target).exists(), target
    anchors = {
        re.sub(r"[^a-z0-9 -]", "", line.strip("# ").lower()).replace(" ", "-")
        for line in TEXT.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
