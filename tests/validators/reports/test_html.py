"""The HTML page: self-contained, escaped, accessible, and drawn by a real browser in both schemes and on a phone."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from isomorph.validators.reports import render

Content = Callable[[str], dict[str, Any]]
VERDICTS = ("EQUIVALENT", "DIFFERENT", "INCONCLUSIVE")
HOSTILE = '"><script>document.title="owned"</script><img src=x onerror=alert(1)>\x1b\ud800'
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Elements with their attributes; complains of what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def tags(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag in names]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_page_loads_nothing_and_runs_nothing(content: Content, verdict: str) -> None:
    text = render(content(verdict), "html")
    page = Page(text)
    assert not page.tags("script", "link", "img", "iframe", "object", "embed", "base", "form")
    for _, attributes in page.elements:
        assert not {"src", "href", "style", "xlink:href"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    (policy,) = [meta["content"] for meta in page.tags("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@pytest.mark.parametrize("verdict", VERDICTS)
def test_the_page_can_be_read_by_a_screen_reader(content: Content, verdict: str) -> None:
    page = Page(render(content(verdict), "html"))
    assert page.tags("html")[0]["lang"] == "en"
    assert len(page.tags("header")) == len(page.tags("main")) == len(page.tags("footer")) == len(page.tags("h1")) == 1
    headings = {attributes.get("id") for attributes in page.tags("h2")}
    assert all(section["aria-labelledby"] in headings for section in page.tags("section"))
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.tags("svg"))
    assert all(th["scope"] == "col" for th in page.tags("th"))
    assert len(page.tags("caption")) == len(page.tags("table"))


def test_hostile_names_are_text(content: Content) -> None:
    found = content("DIFFERENT")
    found["source"]["model"] = found["replay"] = HOSTILE
    found["outputs"][0].update(source=HOSTILE, target=HOSTILE)
    found["culprit"].update(target=HOSTILE, path=HOSTILE, file=HOSTILE, code=HOSTILE)
    found["layers"][0].update(target=HOSTILE, op=HOSTILE)
    found["notes"] = found["reasons"] = found["maps"] = [HOSTILE]
    found["source"]["environment"][HOSTILE] = HOSTILE
    found["families"][0]["inputs"][0]["name"] = HOSTILE
    text = render(found, "html")
    page = Page(text)
    assert not page.tags("script", "img")
    text.encode()


def test_what_the_page_says(content: Content) -> None:
    found = content("DIFFERENT")
    text = render(found, "html")
    for said in ("DIFFERENT", found["culprit"]["target"], "float64", "onnxruntime", "bytes N=1", found["replay"]):
        assert said in text


def test_training_is_told(trained: dict[str, Any]) -> None:
    text = render(trained, "html")
    page = Page(text)
    assert "training" in {attributes.get("id") for attributes in page.tags("h2")}
    assert len(page.tags("caption")) == len(page.tags("table"))
    for said in ("3 steps, 5 of 7 quantities agree", "head.weight", "1 of 2", "the unbiased variance", "all 7 quant"):
        assert said in text
    trained["training"]["quantities"][0].update(source=HOSTILE, explanation=HOSTILE, case=HOSTILE)
    assert not Page(render(trained, "html")).tags("script", "img")


def _contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_text_has_contrast_in_both_schemes(content: Content) -> None:
    text = render(content("EQUIVALENT"), "html")
    schemes = re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for ink in ("ink", "dim", "good", "bad", "open", "accent"):
            assert min(_contrast(colours[ink], colours[paper]) for paper in ("page", "card")) >= 4.5, ink
        for kind in ("good", "bad", "open"):
            assert _contrast(colours[kind], colours[f"{kind}-wash"]) >= 4.5, kind
        assert _contrast(colours["ink"], colours["bad-wash"]) >= 4.5


def browser() -> str:
    """Chromium, or skip. ISOMORPH_REQUIRE=chromium (not `all`: pip cannot install it) makes a missing one fail."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        if "chromium" in os.environ.get("ISOMORPH_REQUIRE", "").split(","):
            pytest.fail("needs chromium (ISOMORPH_REQUIRE)", pytrace=False)
        pytest.skip("needs chromium: apt-get install chromium")
    return found


def shot(page: Path, width: int, *, dark: bool) -> Any:
    """The page as a browser draws it, (height, width, 3)."""
    from skimage.io import imread

    picture = page.with_name(f"{width}-{dark}.png")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={width},3000"]
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    profile = f"--user-data-dir={page.with_name('profile')}"
    command = [browser(), *flags, scheme, profile, f"--screenshot={picture}", page.as_uri()]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    return imread(picture)[..., :3].astype(float)


@pytest.mark.requires("skimage")
def test_a_browser_draws_it(content: Content, trained: dict[str, Any], tmp_path: Path) -> None:
    browser()
    found = content("DIFFERENT")
    found["source"]["model"] = "a/very/long/path/" + "without_any_place_to_break_the_line" * 4 + ".onnx"
    found["layers"] = (found["layers"] * 20)[:200]
    found["training"] = trained["training"]
    page = tmp_path / "report.html"
    page.write_text(render(found, "html"), encoding="utf-8")
    for width in (1200, 500):  # (Chromium's window is never narrower than 500 pixels; see the next test)
        light, dark = shot(page, width, dark=False), shot(page, width, dark=True)
        assert light.shape == dark.shape == (3000, width, 3)
        assert light[:, :4].mean() > 220, "light paper"
        assert dark[:, :4].mean() < 40, "dark paper"
        for picture in (light, dark):
            paper = picture[-1, -1]
            assert (abs(picture - paper).max(axis=2) > 60).mean() > 0.01, "something is drawn"
            assert abs(picture[:, -3:] - paper).max() < 8, "nothing sticks out at the right"


@pytest.mark.requires("skimage")
def test_a_phone_shows_it_without_scrolling_sideways(content: Content, trained: dict[str, Any], tmp_path: Path) -> None:
    """In a frame of 360 pixels; the page beside it shows what sticks out."""
    browser()
    found = content("DIFFERENT")
    found["source"]["model"] = "without_any_place_to_break_the_line" * 6 + ".onnx"
    found["layers"] = (found["layers"] * 20)[:200]
    found["training"] = trained["training"]
    inner = tmp_path / "report.html"
    inner.write_text(render(found, "html"), encoding="utf-8")
    outer = tmp_path / "phone.html"
    frame = '<iframe src="report.html" width="360" height="2900" style="border:0" scrolling="yes"></iframe>'
    outer.write_text(f'<!doctype html><body style="margin:0;background:#f0f">{frame}', encoding="utf-8")
    picture = shot(outer, 600, dark=False)
    phone = picture[:2900, :360]
    paper = phone[2, 2]
    assert abs(phone[:, -3:] - paper).max() < 8, "nothing sticks out at the right"
    assert (abs(phone - paper).max(axis=2) > 60).mean() > 0.02
