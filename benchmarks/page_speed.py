"""Pages that open from disk: how long `explore` and `page_of` take to make them, and how soon they answer a hand.

Command:   python -m benchmarks.page_speed
Runtime:   about half a minute on 2 idle CPU cores, with chromium installed.

A browser without a window opens each page and times what a hand would do, up to the next frame of the screen. The
bound is a tenth of a second, below which an answer seems immediate.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from playwright.sync_api import Browser, Page, sync_playwright

from gdlab import FUNCTIONS, OPTIMIZERS, reporting, sweep
from gdlab.plots import interactive
from gdlab.records import environment, write_json
from tests.browsing import chromium
from tests.samples import many_runs

RESULTS = Path(__file__).parent / "results" / "page_speed.json"
REPEATS = 9
BUTTON = "element => element.click()"
ACTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "explore": {
        "move a slider": (
            'input[data-axis="learning_rate"]',
            "(input, at) => { input.value = at; input.dispatchEvent(new Event('input', {bubbles: true})); }",
        ),
    },
    "report of 100,000 runs": {
        "sort the table": ('section.piece[aria-label="All runs"] thead button', BUTTON),
        "find the best run": ('section.piece[aria-label="Sensitivity"] button:text("Best run")', BUTTON),
        "click on a dot": (
            'section.piece[aria-label="Sensitivity"] canvas',
            """(canvas, at) => {
                const {x, y} = canvas.getBoundingClientRect();
                canvas.dispatchEvent(new MouseEvent("click", {clientX: x + 300 + 9 * at, clientY: y + 150}));
            }""",
        ),
    },
}
TIMED = """async ([element, at]) => {
  await new Promise(done => requestAnimationFrame(done));
  const began = performance.now();
  (ACTION)(element, at);
  await new Promise(done => requestAnimationFrame(done));
  return performance.now() - began;
}"""


def paths() -> xr.Dataset:
    """Return the paths of three optimizers at nine rates from sixteen starts."""
    starts = np.random.default_rng(0).uniform(-4, 4, (16, 2)).astype(np.float32)
    factories = {name: OPTIMIZERS[name] for name in ("sgd", "adam", "momentum")}
    rates = {"learning_rate": np.geomspace(1e-4, 1e-2, 9)}
    return sweep(FUNCTIONS["himmelblau"], factories, rates, starts, max_steps=200, record="path", progress=False)


def answers(tab: Page, actions: dict[str, tuple[str, str]]) -> dict[str, float]:
    """Return the median of the milliseconds from each action to the frame that shows what it did."""
    found = {}
    for name, (selector, action) in actions.items():
        element = tab.locator(selector).first
        element.scroll_into_view_if_needed()
        timed = TIMED.replace("ACTION", action)
        times = [tab.evaluate(timed, [element.element_handle(), at]) for at in range(REPEATS)]
        found[name] = statistics.median(times)
    return found


def opened(browser: Browser, file: Path, name: str) -> dict[str, Any]:
    """Return how long a page takes to open, and to answer."""
    tab = browser.new_page(viewport={"width": 1200, "height": 900})
    began = time.perf_counter()
    tab.goto(file.as_uri())
    tab.wait_for_selector("html[data-ready]")
    seconds = time.perf_counter() - began
    milliseconds = answers(tab, ACTIONS.get(name, {}))
    tab.close()
    return {"opened": seconds, "milliseconds": milliseconds}


def timed(make: Callable[[], Any]) -> tuple[Any, float]:
    """Return what a function makes, and the seconds that it takes."""
    began = time.perf_counter()
    return make(), time.perf_counter() - began


def main() -> None:
    swept = paths()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        swept.to_netcdf(Path(folder) / "paths.nc")
        many_runs(10_000).to_netcdf(Path(folder) / "scan.nc")
        makers: dict[str, tuple[Callable[[], Any], Callable[[Any, Path], Any]]] = {
            "explore": (lambda: interactive.explore(FUNCTIONS["himmelblau"], swept), interactive.save),
            "report of paths": (lambda: reporting.page_of([Path(folder) / "paths.nc"]), reporting.save),
            "report of 100,000 runs": (lambda: reporting.page_of([Path(folder) / "scan.nc"]), reporting.save),
        }
        for name, (make, save) in makers.items():
            make()  # imports, and reads the libraries
            page, seconds = timed(make)
            file = Path(folder) / "page.html"
            save(page, file)
            results[name] = {"bytes": file.stat().st_size, "seconds": seconds, **opened(browser, file, name)}
            print(name, results[name])
    made = environment() | {"command": "python -m benchmarks.page_speed"}
    write_json(RESULTS, {"environment": made, "pages": results})


if __name__ == "__main__":
    main()
