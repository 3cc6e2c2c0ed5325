"""Take the pictures of the README: a feature's page, the explorer, the page of an attribution graph, and a figure.

    python .ci/pictures.py runs/demo [runs/circuits]

The first run gives the feature, the explorer and the figure, and needs a page of the present version (`interp report
RUN`). The second, of `interp demo --circuits`, gives the graph; without it the first does. Chromium takes them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for the driver of Chromium, which is the tests'

from interp import Run, figures  # noqa: E402
from interp.cli.run_commands import PROMPTS  # noqa: E402
from interp.report.live import Explorer  # noqa: E402
from tests.chromium import Chromium  # noqa: E402

LABEL = "speaker"
"""The feature shown is the one that detects this label of the corpus best."""
TEXT = "My lord, your father and my brother will"
OUT = ROOT / "analyses"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("circuits", type=Path, nargs="?")
    parser.add_argument("--chromium", default="chromium")
    options = parser.parse_args()
    run = Run(options.run)
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder)
        browser = Chromium(options.chromium, temporary / "profile")
        try:
            browser.size(1000, 680, scale=2)  # as wide as GitHub shows them: the letters keep their size
            latent = run.features.table("labels").query(f"label == '{LABEL}'").nlargest(1, "f1")["latent"].item()
            browser.open(f"{run.page.resolve().as_uri()}#feature/{latent}")
            browser.picture(OUT / "page.png")
            take_explorer(browser, run)
            take_graph(browser, options.circuits or options.run, temporary / "graph.html")
        finally:
            browser.close()
        figures.save(figures.verdict_shares(run.nulls.shares), temporary / "figure.png", width="page")
        (temporary / "figure.png").replace(OUT / "figure.png")


def take_explorer(browser: Chromium, run: Run) -> None:
    """Type a text, and choose to see the effects on the likeliest next token."""
    with Explorer(run) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser.open(f"{server.address}/#try")
        browser.evaluate(
            f"const box = document.querySelector('textarea'); box.value = {json.dumps(TEXT)};"
            "box.dispatchEvent(new Event('input', { bubbles: true }))"
        )
        last = json.dumps(TEXT.split()[-1])
        browser.wait(f"[...document.querySelectorAll('h2')].some((each) => each.textContent.includes({last}))")
        browser.wait("document.querySelector('.aim') !== null")
        browser.evaluate("document.querySelector('.listing .widths button:last-child').click()")
        browser.wait("document.querySelector('.textstrip .raised') !== null")
        browser.wait("document.querySelector('.stale') === null && document.getAnimations().length === 0")
        browser.picture(OUT / "explorer.png")
        server.shutdown()


def take_graph(browser: Chromium, run: Path, page: Path) -> None:
    prompt = PROMPTS["play"]
    subprocess.run([sys.executable, "-m", "interp", "graph", str(run), prompt, "--out", str(page)], check=True)
    browser.size(1000, 950)
    browser.send("Page.navigate", url=page.resolve().as_uri())
    browser.wait("document.readyState === 'complete' && Boolean(document.querySelector('svg'))")
    browser.picture(OUT / "graph.png")


if __name__ == "__main__":
    main()
