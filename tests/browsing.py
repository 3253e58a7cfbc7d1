"""A browser for tests of pages: one without a window, and tabs that note every error and every request."""

import shutil

import pytest

chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    """A browser without a window."""
    if chromium is None:
        pytest.skip("chromium is not installed")
    driver = pytest.importorskip("playwright.sync_api", reason="playwright, of the extra `test`, is not installed")
    with driver.sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_file(browser):
    """Open a page with settings of the browser, and wait until it says that it is ready."""
    contexts = []

    def open_file(file, *, width=1200, height=900, timeout=30_000, **settings):
        context = browser.new_context(viewport={"width": width, "height": height}, **settings)
        contexts.append(context)
        tab = context.new_page()
        tab.problems, tab.requests = [], []
        tab.on("console", lambda note: tab.problems.append(note.text))
        tab.on("pageerror", lambda error: tab.problems.append(str(error)))
        tab.on("request", lambda request: tab.requests.append(request.url))
        tab.goto(file.as_uri())
        tab.wait_for_selector("html[data-ready]", timeout=timeout)
        return tab

    yield open_file
    for context in contexts:
        context.close()


def settle(tab):
    """Wait until the page has drawn what was asked of it."""
    tab.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
