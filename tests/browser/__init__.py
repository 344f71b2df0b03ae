"""The notebooks in a real browser: JupyterLab, every cell run, every slider, list, button and prediction form used by hand.

    python -m tests.browser               the test; without browser or playwright: what to install, exit code 2
    python -m tests.browser.pages --out build/pages --theme dark --width 800       pictures of the pages, to look at

The browser is one that is installed (Chromium, Chrome or Edge), driven by playwright; none is ever downloaded. All
happens in a copy of the course in a temporary folder, with a progress file of its own.
"""
