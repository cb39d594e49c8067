"""Opens a page in headless Chromium and says what is wrong with it. Used by tests; needs `make browser`."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WIDTHS = {"desktop": (1280, 900), "phone": (390, 844)}
"""CSS pixels."""
SMALLEST_TEXT = 12.0
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

MEASURE = (Path(__file__).parent / "measure.js").read_text(encoding="utf-8")


@dataclass
class Seen:
    """What a page did while it was opened."""

    console: list[str] = field(default_factory=list)
    """Errors and warnings, and exceptions that nobody caught."""
    requests: list[str] = field(default_factory=list)
    """Addresses beyond the file itself and `data:`."""
    charts: list[tuple[str, int]] = field(default_factory=list)
    """(section: title, drawn marks), such as `losses-by-mask: Critic`: pixels of the series' colours, or SVG shapes."""
    small_text: list[str] = field(default_factory=list)
    overflow: int = 0
    """Pixels by which the page is wider than the screen."""

    def problems(self, expected_charts: int | None = None) -> list[str]:
        """Everything that is wrong, in words; nothing on a good page."""
        found = [f"console: {line}" for line in self.console]
        found += [f"request: {address}" for address in self.requests]
        found += [f"empty chart: {name}" for name, marks in self.charts if not marks]
        found += [f"small text: {text}" for text in self.small_text]
        if self.overflow > 0:
            found.append(f"wider than the screen by {self.overflow} px")
        if expected_charts is not None and len(self.charts) != expected_charts:
            found.append(f"{len(self.charts)} charts instead of {expected_charts}")
        return found


def chromium() -> str | None:
    """Path of the browser; None where there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browser() -> Iterator[Any]:
    """Playwright's browser, closed afterwards. Raises RuntimeError without Chromium."""
    from playwright.sync_api import sync_playwright

    path = chromium()
    if path is None:
        raise RuntimeError("no Chromium; `make browser` installs it")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield opened
        finally:
            opened.close()


def look(opened: Any, path: Path, screen: str = "desktop", *, dark: bool = False, picture: Path | None = None) -> Seen:
    """Opens a file and measures it; `picture` gets a PNG of the whole page."""
    width, height = WIDTHS[screen]
    scheme = "dark" if dark else "light"
    context = opened.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    seen = Seen()
    try:
        page = context.new_page()
        page.on("console", lambda line: seen.console.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: seen.console.append(str(error)))
        own = path.resolve().as_uri()
        page.on("request", lambda request: _note(seen, request.url, own))
        page.goto(own, wait_until="load")
        page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        page.wait_for_timeout(200)  # whatever a page asks for late
        measured = page.evaluate(MEASURE, SMALLEST_TEXT)
        seen.charts = [(chart["name"], chart["marks"]) for chart in measured["charts"]]
        seen.small_text, seen.overflow = measured["small"], measured["width"] - measured["room"]
        if picture is not None:
            page.screenshot(path=str(picture), full_page=True)
    finally:
        context.close()
    return seen


def _note(seen: Seen, url: str, own: str) -> None:
    if url.partition("#")[0] != own and not url.startswith("data:"):
        seen.requests.append(url)
