"""A line for each notebook at the end of the test: how long it took and what was used."""

LINES = []


def pytest_terminal_summary(terminalreporter):
    if LINES:
        terminalreporter.section("in the browser")
        for line in LINES:
            terminalreporter.write_line(line)
