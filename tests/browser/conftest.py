"""A table at the end of the test: for each notebook how long it took, and what was used of its controls."""

PAGES = []  # NotebookPages whose visit is over, in the order of the tests


def pytest_terminal_summary(terminalreporter):
    if PAGES:
        terminalreporter.section("in the browser")
        for line in table(PAGES):
            terminalreporter.write_line(line)


def table(pages) -> list[str]:
    """One line for each page and one for all; 0 is left blank. Two notebooks run at once, so the clock shows about half
    the sum of the seconds."""
    rows = [
        (
            page.name,
            *map("{:.1f}".format, page.spent.values()),
            *(count or "" for count in page.done.values()),
        )
        for page in pages
    ]
    spent = [sum(page.spent[key] for page in pages) for key in pages[0].spent]
    done = [sum(page.done[key] for page in pages) for key in pages[0].done]
    rows.append(("all", *map("{:.1f}".format, spent), *done))
    headings = [f"{key}, s" for key in pages[0].spent] + list(pages[0].done)
    return [
        f"{name:<22}"
        + "".join(f"{text:>{2 + len(head)}}" for text, head in zip(texts, headings, strict=True))
        for name, *texts in [("notebook", *headings), *rows]
    ]
