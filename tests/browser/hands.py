"""Use what a cell shows: move its sliders, go through its lists, press its buttons, answer its form.

Each function returns what is wrong, in sentences. The rule for a control: something besides its own value must change.
"""

from __future__ import annotations

FORM = "Keep my prediction"  # the button that tells a prediction's form from other widgets
BUTTONS = 12  # so many presses
CHOICES = 3  # so many other entries of a list


def use_widgets(page, cell, index: int) -> list[str]:
    """Everything that a cell shows to be used. page: a NotebookPage; cell: its locator; index: its number from 0."""
    problems = []
    for output in visible(cell, ".jp-OutputArea-output:has(> .jupyter-widgets)"):
        is_form = output.locator("button", has_text=FORM).count() > 0
        problems += (answer_form if is_form else try_widgets)(page, output, index)
    return problems


def try_widgets(page, cell, index: int) -> list[str]:
    """Every slider, list, number and box, the player, then the buttons."""
    problems = []
    for slider in visible(cell, ".noUi-handle"):
        page.done["sliders"] += 1
        if not changes(page, index, lambda slider=slider: move(slider)):
            problems.append("a slider moves and nothing changes")
    for menu in visible(cell, "select"):
        page.done["lists"] += 1
        for entry in range(1, min(menu.locator("option").count(), 1 + CHOICES)):
            if not changes(page, index, lambda menu=menu, entry=entry: menu.select_option(index=entry)):
                problems.append(f"entry {entry + 1} of a list is chosen and nothing changes")
    for number in visible(cell, "input[type=number]"):
        page.done["numbers"] += 1
        other = "2" if number.input_value() == "1" else "1"
        if not changes(
            page, index, lambda number=number, other=other: (number.fill(other), number.press("Enter"))
        ):
            problems.append(f"{other} is typed into a field and nothing changes")
    for box in visible(cell, ".widget-checkbox input"):
        page.done["boxes"] += 1
        if not changes(page, index, box.click):
            problems.append("a box is ticked and nothing changes")
    for player in visible(cell, ".widget-play"):
        page.done["players"] += 1
        if not plays(page, index, player.locator("button").first):
            problems.append("a player is started and nothing changes")
    return problems + press_buttons(page, cell, index)


def press_buttons(page, cell, index: int) -> list[str]:
    """Press the buttons in turn, the last first. The first press of each must do something; games go on after that."""
    problems = []
    buttons = visible(cell, "button.jupyter-button:not(.widget-play *)")[::-1]
    for turn in range(BUTTONS if buttons else 0):
        button = buttons[turn % len(buttons)]
        if not button.is_enabled():
            break
        page.done["buttons"] += 1
        if not changes(page, index, button.click):
            if turn >= len(buttons):
                break
            problems.append(f"button {button.inner_text()!r} is pressed and nothing changes")
    return problems


def answer_form(page, cell, index: int) -> list[str]:
    """Give a prediction: the second choice, or a few steps along the slider, or a number; keep it."""
    if handles := visible(cell, ".noUi-handle"):
        move(handles[0])
        page.done["sliders"] += 1
    elif choices := visible(cell, "input[type=radio]"):
        choices[1].check()
    else:
        cell.locator("input[type=number]").fill("1")
    page.call("settled")
    page.done["predictions"] += 1
    cell.locator("button", has_text=FORM).click()
    page.call("settled")
    said = cell.locator(".widget-html").inner_text()
    return [] if "Kept." in said else [f"the prediction is not kept; the form says: {said!r}"]


def move(slider) -> None:
    """Three steps to the right; from the end, to the left."""
    slider.focus()
    at_end = slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax")
    for _ in range(3):
        slider.press("ArrowLeft" if at_end else "ArrowRight")


def changes(page, index: int, act) -> bool:
    """Whether `act` changes what the cell's widgets show, once the kernel has answered."""
    before = page.call("face", index)
    act()
    page.call("settled")
    return page.call("face", index) != before


def plays(page, index: int, button) -> bool:
    """Start a player, wait for the next picture, stop it."""
    from playwright.sync_api import TimeoutError as Late

    before = page.call("face", index)
    button.click()
    try:
        page.page.wait_for_function(
            "([index, before]) => window.course.face(index) !== before", arg=[index, before], timeout=10_000
        )
    except Late:
        return False
    finally:
        button.click()
        page.call("settled")
    return True


def visible(cell, selector: str) -> list:
    return [one for one in cell.locator(selector).all() if one.is_visible()]
