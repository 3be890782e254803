"""Headless Chromium for tests: loads a page at a given width, measures it and takes its picture."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--allow-file-access-from-files", "--enable-logging=stderr", "--v=0",
)  # fmt: skip

# Chromium windows are at least 500 px wide; an iframe has any width, for its media queries too.
_FRAME = """<!DOCTYPE html><body style="margin:0"><iframe id="page" src="PAGE" style="border:0;width:WIDTHpx;
height:HEIGHTpx"></iframe><script>
const frame = document.getElementById("page");
function measure() {
  const page = frame.contentDocument, root = page && page.documentElement;
  if (!root || !page.body) return;
  const inScroller = (e) => e.closest(".scroll, pre, svg.zp, .plot, details:not([open])");
  const wide = [...page.querySelectorAll("body *")].filter(
    (e) => !inScroller(e) && e.getBoundingClientRect().right > root.clientWidth + 1);
  const plots = [...page.querySelectorAll(".plot")].filter((p) => !p.closest("details:not([open])"));
  const outside = plots.filter((p) => {
    const box = p.getBoundingClientRect();
    return [...p.querySelectorAll("text")].some((t) => {
      const own = t.getBoundingClientRect();
      return own.width > 0 && (own.right > box.right + 2 || own.left < box.left - 2);
    });
  });
  const overlaps = plots.filter((p) => {
    const legend = p.querySelector("g.legend"), area = p.querySelector("rect.nsewdrag");
    return legend && area && legend.getBoundingClientRect().bottom > area.getBoundingClientRect().top + 2;
  });
  document.body.dataset.result = JSON.stringify({
    width: root.clientWidth, scroll_width: root.scrollWidth, height: root.scrollHeight,
    drawn: Number(root.dataset.drawn || 0), plots: plots.length,
    wide: wide.map((e) => e.tagName + "." + e.className).slice(0, 5),
    outside: outside.map((p) => p.dataset.figure), overlaps: overlaps.map((p) => p.dataset.figure),
    said: page.body.dataset.said || "",
    background: getComputedStyle(page.body).backgroundColor, ink: getComputedStyle(page.body).color,
  });
}
let acted = false;
function act() {
  const page = frame.contentDocument;
  const root = page && page.documentElement;
  if (acted || !root || !root.dataset.ready) return;
  acted = true;
  const script = page.createElement("script");
  script.textContent = ACTION;
  page.head.append(script);
}
setInterval(act, 100);
setInterval(measure, 200);
</script></body>"""


@dataclass(frozen=True)
class Seen:
    """What the browser found."""

    facts: dict[str, Any]
    console: list[str]
    picture: Path


def look(
    chromium: Path, page: Path, width: int, *, dark: bool = False, height: int = 2400, action: str = ""
) -> Seen:
    """Open a page in a frame of ``width`` pixels and report what is seen after it has drawn.

    ``action`` is a script that runs in the page once it is ready; what it writes to ``document.body.dataset.said`` is
    the fact ``said``.
    """
    name = f"{page.stem}-{width}{'-dark' if dark else ''}"
    frame = page.with_name(f"{name}-frame.html")
    frame.write_text(
        _FRAME.replace("ACTION", json.dumps(action))
        .replace("PAGE", page.name)
        .replace("WIDTH", str(width))
        .replace("HEIGHT", str(height)),
        encoding="utf-8",
    )
    picture = page.with_name(f"{name}.png")
    options = [
        f"--window-size={max(500, width)},{height}", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        f"--screenshot={picture}", "--virtual-time-budget=15000", "--dump-dom",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        environment = {**os.environ, "HOME": profile}
        result = subprocess.run(
            [str(chromium), *_FLAGS, f"--user-data-dir={profile}", *options, frame.as_uri()],
            capture_output=True, text=True, timeout=600, check=False, env=environment,
        )  # fmt: skip
    found = re.search(r'data-result="([^"]*)"', result.stdout)
    assert found, f"the page was not measured: {result.stderr[-2000:]}"
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return Seen(json.loads(unescape(found[1])), console, picture)
