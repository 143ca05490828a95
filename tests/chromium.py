"""Chromium for tests of what people see, driven by playwright; without either these tests are skipped."""

import os
import shutil
from pathlib import Path

import pytest

CANDIDATES = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
SHOTS = Path(__file__).resolve().parents[1] / "build" / "browser"


@pytest.fixture(scope="session")
def chromium():
    """A running browser."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
    named = os.environ.get("CHROMIUM")
    if named and not shutil.which(named):
        pytest.fail(f"CHROMIUM={named} is no program")
    path = named or next(filter(shutil.which, CANDIDATES), None)
    if path is None:
        pytest.skip(f"no Chromium: install one, or name it in $CHROMIUM; looked for {', '.join(CANDIDATES)}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def shot():
    """``shot(page, name)`` saves a screenshot as ``build/browser/<name>.png``."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
