"""Chromium without a window, driven through the pipe of its DevTools protocol: pages are opened, clicked, typed into.

The protocol is JSON messages, each ended by a zero byte: commands on file descriptor 3, answers and events on 4.
"""

import base64
import json
import os
import re
import select
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars "
    "--enable-unsafe-swiftshader --remote-debugging-pipe"
)
SECONDS = 60
"""Longest wait for an answer: a machine may be busy."""
KEYS = {"Enter": 13, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, "Tab": 9, " ": 32}
READY = """(() => {
    const view = document.body?.dataset.view, section = document.getElementById(view);
    if (!performance.getEntriesByName("report-drawn").length || !section) return false;
    if (view === "features") return Boolean(section.querySelector("tbody tr[role=row]"));
    const [, latent] = location.hash.split(/[/?]/);
    return section.dataset.ready === "true" || section.querySelector(".missing") !== null
        || (latent !== undefined && section.dataset.latent === latent);
})()"""

EXPORTS = "Object.defineProperty(globalThis, 'report', { get: () => Object.assign({}, ...Object.values(modules)) })"
"""In a page made of modules, `report` has what all of them export."""

FAINT = """(() => {
    // a mixed colour has shares of 1: color(srgb 0.9 0.5 0 / 0.5)
    const whole = (colour) => (colour.startsWith("color(") ? 255 : 1);
    const numbers = (colour) => colour.match(/[\\d.]+/g).map((x, k) => (k < 3 ? whole(colour) : 1) * Number(x));
    const over = ([r, g, b, a = 1], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
    const own = (e) => getComputedStyle(e);
    const ground = (e) => e ? over(numbers(own(e).backgroundColor), ground(e.parentElement)) : [255, 255, 255];
    const linear = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
    const found = [], texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const e = texts.currentNode.parentElement, said = texts.currentNode.textContent.trim();
        const isShown = e instanceof HTMLElement && e.getClientRects().length && !e.closest("script, style, :disabled");
        if (!said || !isShown) continue;
        const under = ground(e), sides = [light(over(numbers(own(e).color), under)), light(under)];
        const ratio = (Math.max(...sides) + 0.05) / (Math.min(...sides) + 0.05);
        if (ratio < (parseFloat(own(e).fontSize) >= 24 ? 3 : 4.5)) found.push(`${ratio.toFixed(2)}: ${said}`);
    }
    return found;
})()"""
"""Texts whose contrast is below WCAG's level AA, with their ratio; those in figures apart."""

UNNAMED = """(() => {
    const found = [];
    const isShown = (e) => e.checkVisibility() && !e.closest("[aria-hidden=true]");
    const all = (selector) => Array.from(document.querySelectorAll(selector)).filter(isShown);
    const told = (e, why) => found.push(`${why}: ${e.cloneNode().outerHTML}`);
    const label = (e) => e.getAttribute("aria-label") ?? "";
    const words = (ids) => ids.split(/\\s+/).map((id) => document.getElementById(id)?.textContent ?? "").join("");
    const labelled = (e) => label(e) || words(e.getAttribute("aria-labelledby") ?? "");
    const name = (e) => labelled(e) + e.textContent + e.title + Array.from(e.querySelectorAll("*"), label).join("");
    const check = (selector, why, text) => all(selector).forEach((e) => text(e).trim() || told(e, why));
    check("a[href], button, summary, [role=tab], [role=slider]", "no name", name);
    check("input, select, textarea", "no label", (e) => label(e) + Array.from(e.labels, (l) => l.textContent).join(""));
    check("img, [role=img], [role=region], [role=group], nav", "no label", (e) => labelled(e) + (e.alt ?? ""));
    check("th", "an empty head", name);
    for (const key of ["aria-controls", "aria-labelledby", "for"]) {
        const isThere = (id) => document.getElementById(id) !== null;
        all(`[${key}]`).forEach((e) => e.getAttribute(key).split(" ").every(isThere) || told(e, `${key} of nothing`));
    }
    const ids = Array.from(document.querySelectorAll("[id]"), (e) => e.id);
    for (const id of new Set(ids)) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`twice: ${id}`);
    for (const e of all("[tabindex]")) if (e.tabIndex > 0) told(e, "out of order");
    const scrolls = (e) => /auto|scroll/.test(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth + 1;
    const takesKeys = (e) => e.tabIndex >= 0 || e.querySelector("a, button, input, [tabindex]");
    for (const e of all("main *")) if (scrolls(e) && !takesKeys(e)) told(e, "scrolls for no key");
    let level = 0;
    for (const e of all("h1, h2, h3, h4, h5, h6")) {
        if (Number(e.tagName[1]) > level + 1) told(e, `a heading below h${level}`);
        level = Number(e.tagName[1]);
    }
    return found;
})()"""
"""What one misses who does not see the page, or has no mouse: names of what is pressed, labels of what is filled in,
the order of headings, ids that are there once, scrolling by keys. Those rules of axe-core that bear on such a page."""


AIM = """(async () => {
    const find = () => document.querySelector(%s);
    find().scrollIntoView({ block: "nearest" });
    let middle = null;
    for (let was = null; ;) {
        await new Promise(requestAnimationFrame);
        const box = find().getBoundingClientRect();
        middle = [box.x + box.width / 2, box.y + box.height / 2];
        if (String(middle) === String(was)) break;
        was = middle;
    }
    const aimed = document.elementFromPoint(...middle), events = ["pointerdown", "mousedown", "mouseup", "click"];
    let isMet = null;
    const guard = (event) => {
        isMet ??= event.target === aimed || Boolean(find()?.contains(event.target));
        if (!isMet) event.stopImmediatePropagation();
    };
    events.forEach((name) => addEventListener(name, guard, { capture: true }));
    window.endPress = () => {
        events.forEach((name) => removeEventListener(name, guard, { capture: true }));
        return isMet ?? true;
    };
    return middle;
})()"""
"""Where the middle of an element is; until `endPress()`, which says whether a press has met it, no other is pressed."""


class Chromium:
    def __init__(self, program: str, profile: Path):
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()

        def as_three_and_four() -> None:
            high = os.dup(answers), os.dup(commands)
            os.dup2(high[1], 3)
            os.dup2(high[0], 4)

        self.process = subprocess.Popen(
            [program, *FLAGS.split(), f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=as_three_and_four,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._n = 0
        self._read = b""
        self._session: str | None = None
        self.complaints: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")
        self.send("Page.addScriptToEvaluateOnNewDocument", source=EXPORTS)
        self.size(1400, 900)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(SECONDS)
        os.close(self._to)
        os.close(self._from)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Return the result of a command. Complaints of the page meanwhile are kept."""
        self._n += 1
        message = {"id": self._n, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._n:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def open(self, address: str) -> None:
        """Load a page afresh and wait until its view is drawn."""
        self.complaints.clear()
        if address.startswith("file:"):
            address = address.replace("#", f"?{self._n}#")  # with another query it is another page
        else:
            self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=address)
        self.wait(READY)

    def open_once(self, address: str) -> None:
        """Load a page unless it is open, in whichever state: for functions of its scripts that read none."""
        if not self.evaluate(f"location.href.split(/[?#]/)[0] === {json.dumps(address)}"):
            self.open(address)

    def go(self, place: str) -> None:
        """Go to another view of the page that is open, by what follows # in its address, and wait until it is drawn.
        What was changed on the page stays."""
        view = re.split("[/?]", place)[0]
        self.evaluate(f"location.hash = {json.dumps(place)}")
        self.wait(f"document.body.dataset.view === {json.dumps(view)} && {READY}")

    def dom(self, address: str) -> str:
        """Return the document of a page after its scripts have run without a complaint."""
        self.open(address)
        assert not self.complaints, self.complaints
        assert self.evaluate("document.getElementById('trouble').hidden")
        return self.evaluate("document.documentElement.outerHTML")

    def evaluate(self, expression: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, f"{expression}: {answer['exceptionDetails']}"
        return answer["result"].get("value")

    def wait(self, expression: str) -> Any:
        """Return the value of the expression as soon as it is true."""
        end = time.monotonic() + SECONDS
        while not (value := self.evaluate(expression)):
            assert time.monotonic() < end, f"{expression} stays {value!r}; {self.complaints}"
            time.sleep(0.01)
        return value

    def unfold(self) -> None:
        """Open all details of the view, and wait until they have their content, which is made then."""
        details = "document.querySelectorAll('.view:not([hidden]) details')"
        self.evaluate(f"for (const each of {details}) each.open = true")
        self.wait(f"Array.from({details}).every((each) => each.childElementCount > 1)")

    def text(self, selector: str) -> list[str]:
        """Return the text of each matching element."""
        return self.evaluate(f"Array.from(document.querySelectorAll({json.dumps(selector)}), (e) => e.textContent)")

    def click(self, selector: str) -> None:
        """Press the mouse on the middle of the first matching element, once it stands still. Where something else has
        come there meanwhile, it notices nothing, and the press is repeated."""
        end = time.monotonic() + SECONDS
        while True:
            self.click_at(*self.evaluate(AIM % json.dumps(selector)))
            if self.evaluate("window.endPress?.() ?? true"):  # a press may have opened another document
                return
            assert time.monotonic() < end, f"{selector} never stands still"

    def click_at(self, x: float, y: float) -> None:
        self._mouse(("mousePressed", x, y), ("mouseReleased", x, y))

    def drag(self, selector: str, *places: float | tuple[float, float]) -> None:
        """Press the mouse at the first place of an element and move it over the others: shares of its width, half-way
        down, or pairs of shares of its width and of its height."""
        box = self.evaluate(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")
        at = [place if isinstance(place, tuple) else (place, 0.5) for place in places]
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in at]
        moves = [("mouseMoved", *point) for point in points]
        self._mouse(moves[0], ("mousePressed", *points[0]), *moves[1:], ("mouseReleased", *points[-1]))

    def _mouse(self, *events: tuple[str, float, float]) -> None:
        for kind, x, y in events:
            button = "none" if kind == "mouseMoved" else "left"
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=1)

    def press(self, key: str) -> None:
        code = KEYS.get(key, ord(key.upper()[0]))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        pressed = {"key": key, "windowsVirtualKeyCode": code, "text": text}
        self.send("Input.dispatchKeyEvent", type="keyDown", **pressed)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def search(self, query: str) -> None:
        """Put a text into the search field, as typing does."""
        field = "document.getElementById('search')"
        self.evaluate(f"{field}.value = {json.dumps(query)}; {field}.dispatchEvent(new Event('input'))")

    def size(self, width: int, height: int, *, dark: bool = False, scale: int = 1) -> None:
        """The window's, in CSS pixels, each of `scale` pixels of a picture; and its colour scheme."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def faint(self) -> list[str]:
        return self.evaluate(FAINT)

    def unnamed(self) -> list[str]:
        return self.evaluate(UNNAMED)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            assert select.select([self._from], [], [], SECONDS)[0], "Chromium does not answer"
            part = os.read(self._from, 1 << 16)
            assert part, "Chromium has ended"
            self._read += part
        message, self._read = self._read.split(b"\0", 1)
        answer = json.loads(message)
        self._complain(answer.get("method"), answer.get("params", {}))
        return answer

    def _complain(self, event: str | None, params: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"]))
        elif event == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
            self.complaints.append(str(params["entry"]))
        elif event == "Runtime.consoleAPICalled" and params["type"] in ("warning", "error"):
            self.complaints.append(str(params["args"]))
