"""Names, order and contrast of everything on the page, in light and dark, and on narrow screens."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.browser_page import CHROMIUM, Opened

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; install Debian's package"),
    pytest.mark.slow(seconds=6),
    pytest.mark.timeout(900),
]


_AUDIT = """() => {
  const found = [];
  const shown = element => element.checkVisibility();
  const named = 'input, select, textarea, progress, button, a, [role=img], [role=group], svg';
  for (const element of document.querySelectorAll(named))
    if (shown(element) && !element.ariaHidden) {
      const labels = [...(element.labels ?? [])].map(label => label.innerText).join(' ');
      const name = element.getAttribute('aria-label') || labels || element.innerText;
      if (!name || !name.trim()) found.push('no name: ' + element.outerHTML.slice(0, 80));
    }
  for (const attribute of ['aria-describedby', 'aria-labelledby'])
    for (const element of document.querySelectorAll(`[${attribute}]`))
      for (const id of element.getAttribute(attribute).split(/\\s+/))
        if (!document.getElementById(id)) found.push('no target: ' + id);
  const ids = [...document.querySelectorAll('[id]')].map(element => element.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push('twice: ' + id);
  if (document.querySelectorAll('h1').length !== 1) found.push('not one h1');
  let level = 0;
  for (const heading of document.querySelectorAll('h1, h2, h3, h4, h5, h6')) if (shown(heading)) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) found.push('skipped level: ' + heading.innerText);
    level = next;
  }
  if (document.documentElement.lang !== 'en') found.push('no lang');
  if (document.querySelectorAll('main').length !== 1) found.push('not one main');
  for (const element of document.querySelectorAll('[tabindex]')) if (element.tabIndex > 0) found.push('tabindex');
  for (const table of document.querySelectorAll('table')) if (!table.querySelector('th')) found.push('no th');
  for (const set of document.querySelectorAll('fieldset')) if (!set.querySelector('legend')) found.push('no legend');
  return found;
}"""

_CONTRASTS = """() => {
  const parse = color => {
    const [red, green, blue, alpha = 1] = color.match(/[\\d.]+/g).map(Number);
    return [red, green, blue, alpha];
  };
  const over = (front, back) => [0, 1, 2].map(index => front[index] * front[3] + back[index] * (1 - front[3]));
  const backOf = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(parse(getComputedStyle(at).backgroundColor));
    return layers.reduce((back, layer) => over(layer, back), [255, 255, 255]);
  };
  const light = color => {
    const [red, green, blue] = color.map(value => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const worst = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility()) continue;
    if (['SCRIPT', 'OPTION', 'NOSCRIPT'].includes(element.tagName)) continue;
    const style = getComputedStyle(element);
    const back = backOf(element);
    const text = over(parse(element instanceof SVGElement ? style.fill : style.color), back);
    const [high, low] = [light(text), light(back)].sort((one, other) => other - one);
    worst.push([(high + 0.05) / (low + 0.05), node.data.trim().slice(0, 40)]);
  }
  return worst.sort((one, other) => one[0] - other[0]).slice(0, 3);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("model", ["mixed", "digits", "reviews"])
def test_everything_has_a_name_and_enough_contrast(
    open_page: Callable[..., Opened], address: str, model: str, scheme: str
) -> None:
    opened = open_page(address, color_scheme=scheme)
    opened.goto(model)
    opened.predict()
    if model == "mixed":
        opened.field("width").fill("x")
        opened.page.get_by_role("button", name="Predict", exact=True).click()
        opened.page.locator("#problems").wait_for()
    assert opened.page.evaluate(_AUDIT) == []
    for ratio, text in opened.page.evaluate(_CONTRASTS):
        assert ratio >= 4.5, text
    opened.screenshot(f"{model}-{scheme}")


@pytest.mark.parametrize("model", ["mixed", "digits", "reviews"])
def test_a_narrow_screen_needs_no_sideways_scrolling(
    open_page: Callable[..., Opened], address: str, model: str
) -> None:
    opened = open_page(address, viewport={"width": 320, "height": 640})
    opened.goto(model)
    opened.predict()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 320
    opened.screenshot(f"{model}-narrow")
