"""How long the inspector takes to redraw after a step, and how large its page is.

    python benchmarks/inspector.py [--picture]

100 frames of 854x480 px with two runs and ground truth, in headless Chromium ($CHROMIUM or /usr/bin/chromium).
`--picture` takes the picture in docs/tracking.md of `reports/figures/inspector.html` instead. A step is timed inside
the page: from the slider's event to all canvases drawn and read back. "shown" adds the wait until the browser has put
out the next two pictures, at most 60 a second. Page sizes are of 80 frames, of a generated clip and of noise, the worst
case for JPEG.
"""

import argparse
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from rds_lib.core.artifacts import atomic_write
from rds_lib.core.paths import REPORTS
from rds_lib.data.clips import generate_clip
from rds_lib.evaluation.recordings import Recording, make_run
from rds_lib.model.shape import EncoderShape
from rds_lib.show.inspector.page import inspector_page

SHAPE = EncoderShape(48, (0, 2, 8, 44), (0, 2, 8, 44, 47))
MEASURE = """async () => {
  const root = document.querySelector(".rds-inspector"), scrub = root.querySelector("input[aria-label=frame]");
  const drawn = [], shown = [];
  const next = () => new Promise(requestAnimationFrame);
  for (let t = 0; t <= Number(scrub.max); t++) {
    await next();
    const start = performance.now();
    scrub.value = t;
    scrub.dispatchEvent(new Event("input"));
    for (const canvas of root.querySelectorAll("canvas")) canvas.getContext("2d").getImageData(0, 0, 1, 1);
    if (root.dataset.frame !== String(t)) throw new Error(`frame ${t} was not drawn`);
    drawn.push(performance.now() - start);
    await next(), await next();
    shown.push(performance.now() - start);
  }
  return [drawn, shown];
}"""


def recording(folder, length, *, noise=False, height=480, width=854):
    """A generated clip, played to and fro, or noise, with three runs."""
    clip = generate_clip(5, 3, split="val", frames=20, height=height, width=width, difficulty="plain", n_objects=3)
    rng, files, order = np.random.default_rng(0), [], [min(t % 38, 38 - t % 38) for t in range(length)]
    for t, source in enumerate(order):
        frame = rng.integers(0, 256, (height, width, 3), np.uint8) if noise else clip.frames[source]
        files.append(folder / f"{t:05d}.jpg")
        Image.fromarray(frame).save(files[-1], quality=90)
    labels = np.stack([clip.masks[source] for source in order])
    runs = []
    for n, name in enumerate(("SAM2", "RDS 0.8", "RDS 0.4")):
        run = make_run(name, np.roll(labels, n, axis=2), None, depth=48, truth=labels, starts={1: 0, 2: 0, 3: 0})
        run.active[1:, 10 : 10 + 12 * n], run.keep_prob[1:] = False, rng.random((length - 1, 48))
        runs.append(run)
    return Recording("noise" if noise else "clip", tuple(files), (1, 2, 3), SHAPE, tuple(runs), labels)


def main():
    """Print a line per measurement, or take the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picture", action="store_true")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=["--no-sandbox"]
        )
        take_picture(browser) if options.picture else measure(browser)


def take_picture(browser):
    """Save what the committed page shows on a frame in the middle."""
    page = browser.new_context(viewport={"width": 1100, "height": 1000}, device_scale_factor=1.5).new_page()
    page.goto((REPORTS / "figures" / "inspector.html").as_uri())
    page.locator(".rds-inspector").focus()
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector(".rds-inspector[data-frame='12']")
    with atomic_write(REPORTS / "figures" / "inspector.png") as temporary:
        temporary.write_bytes(page.locator(".rds-inspector").screenshot())


def measure(browser):
    """Print a line per measurement."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "noise").mkdir()
        page_file = folder / "page.html"
        page_file.write_text(
            inspector_page([recording(folder, 100)], ("SAM2", "RDS 0.4"), title="benchmark"), encoding="utf-8"
        )
        for width, scale in ((900, 1), (1400, 1), (1400, 2)):
            page = browser.new_context(viewport={"width": width, "height": 1300}, device_scale_factor=scale).new_page()
            page.goto(page_file.as_uri())
            page.wait_for_selector(".rds-inspector[data-frame]")
            for what, values in zip(("drawn", "shown"), page.evaluate(MEASURE)):
                print(
                    f"{width} px wide, {scale} px per CSS px, {what:5}: "
                    f"median {np.median(values):5.1f} ms, p95 {np.quantile(values, 0.95):5.1f}, max {max(values):5.1f}"
                )
        for name, noise in (("textured", False), ("noise", True)):
            page = inspector_page(
                [recording(folder / "noise", 80, noise=noise)], ("SAM2", "RDS 0.4"), title="benchmark"
            )
            print(f"page of 80 frames of 854x480 px, three runs, {name}: {len(page.encode()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
