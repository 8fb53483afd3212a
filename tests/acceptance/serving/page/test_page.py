"""The page of a real service, as people use it: by keyboard, with images and texts, with and without a key."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from farandole.bundle import Predictor
from farandole.serving.page import form_fields
from tests.support.browser_page import CHROMIUM, Opened
from tests.support.command import FARANDOLE
from tests.support.page_models import EVIL, EVIL_VALUE, mixed, png
from tests.support.served import running_service

pytest.importorskip("playwright.sync_api")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; install Debian's package"),
    pytest.mark.slow(seconds=8),
    pytest.mark.timeout(900),
]


def _share(text: str) -> float:
    """Return the probability in a sentence."""
    return float(text.rpartition("probability of ")[2].rstrip("%")) / 100


def _example(**changes: Any) -> dict[str, list[Any]]:
    """Return the row of the form as it is at first, with changes; numbers as the form rounds them."""
    numbers = {field.column: float(field.example or 0) for field in form_fields(mixed()) if field.sends == "number"}
    row = {column: [numbers.get(column, value)] for column, (value,) in mixed().example().items()}
    return row | {column: [value] for column, value in changes.items()}


def _check_sentence(sentence: str, expected: dict[str, np.ndarray]) -> None:
    """Compare a sentence with the prediction of a bundle, to the digits that people see."""
    assert sentence.startswith(f"answer: {expected['prediction'][0]}, with a probability of ")
    positive = expected["probability"][0]
    assert _share(sentence) == pytest.approx(max(positive, 1 - positive), abs=6e-4)


# One row ---------------------------------------------------------------------------------------------------------


def test_a_row_is_predicted_and_explained_by_keyboard_alone(opened: Opened, predictors: dict[str, Predictor]) -> None:
    page = opened.page
    opened.goto("mixed")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "model"
    fields = form_fields(mixed())
    _tab_to(page, "field-0")
    page.keyboard.press("Control+A")
    page.keyboard.type("12.5")
    _tab_to(page, f"field-{[field.column for field in fields].index('colour')}")
    page.keyboard.type("red")
    _tab_to(page, f"field-{[field.column for field in fields].index('notes')}")
    page.keyboard.press("Control+A")
    page.keyboard.type("late storm")
    while page.evaluate("document.activeElement.type") != "submit":
        page.keyboard.press("Tab")
    page.keyboard.press("Space")
    sentence = opened.said()

    row = _example(width=12.5, colour="red", notes="late storm")
    _check_sentence(sentence, predictors["mixed"].predict(row))
    assert page.locator("#said").get_attribute("role") == "status"
    chart = page.locator("#explanation svg.bars")
    assert "Bar chart" in (chart.get_attribute("aria-label") or "")
    assert chart.locator("rect").count() == 15
    named = page.locator("#explanation table").first.locator("tbody th").all_inner_texts()
    assert set(named) == set(mixed().columns)
    opened.screenshot("table")


def _tab_to(page: Any, element_id: str) -> None:
    """Press Tab until an element has the focus; the form's fields come in the order of the page."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == element_id:
            return
    raise AssertionError(f"{element_id} is not reached by Tab")


def test_tab_visits_the_fields_in_the_order_of_the_page(opened: Opened) -> None:
    opened.goto("mixed")
    opened.field("width").focus()
    seen = []
    while opened.page.evaluate("document.activeElement.type") != "submit":
        element_id = opened.page.evaluate("document.activeElement.id")
        if element_id not in seen:  # the parts of a date have the focus one after the other
            seen.append(element_id)
        opened.page.keyboard.press("Tab")
    assert seen == [f"field-{index}" for index in range(len(mixed().columns))]


def test_values_that_cannot_be_sent_are_shown_at_their_fields(opened: Opened) -> None:
    opened.goto("mixed")
    opened.field("width").fill("1,5")
    opened.field("vector").fill("1, 2, 3")
    before = len(opened.requests)
    opened.page.get_by_role("button", name="Predict", exact=True).click()
    problems = opened.page.locator("#problems")
    problems.wait_for()
    assert opened.page.evaluate("document.activeElement.id") == "problems"
    assert problems.locator("li").all_inner_texts() == [
        "width: 1,5 is not a number here; write 1.5.",
        "vector: This is not a list in JSON; write for example [1, 2.5, 3].",
    ]
    assert opened.field("width").get_attribute("aria-invalid") == "true"
    assert len(opened.requests) == before
    problems.get_by_role("link").last.click()
    assert opened.page.evaluate("document.activeElement.id") == opened.field("vector").get_attribute("id")
    opened.screenshot("form-errors")
    opened.field("width").fill("1.5")
    opened.field("vector").fill("[1, 2, 3]")
    assert opened.predict().startswith("answer: ")
    assert problems.is_hidden()
    assert opened.field("width").get_attribute("aria-invalid") is None


def test_an_error_of_the_service_is_shown_at_its_field_with_value_and_rule(opened: Opened) -> None:
    opened.goto("mixed")
    opened.field("price").fill("much")
    opened.page.get_by_role("button", name="Predict", exact=True).click()
    opened.page.locator("#problems").wait_for()
    error = opened.page.locator("[data-column=price] .error").inner_text()
    assert "much" in error
    assert "decimal(10,2)" in error
    assert opened.field("price").get_attribute("aria-invalid") == "true"
    described = (opened.field("price").get_attribute("aria-describedby") or "").split()
    assert opened.page.locator("[data-column=price] .error").get_attribute("id") in described
    opened.screenshot("service-error")


def test_example_values_come_back_and_all_can_be_emptied(opened: Opened) -> None:
    opened.goto("mixed")
    opened.field("age").fill("33")
    opened.page.get_by_role("button", name="Empty all").click()
    opened.page.locator("#curl-code", has_text='"picture": null').wait_for()
    code = opened.page.locator("#python-code").inner_text()
    row = ast.literal_eval(code.partition("row = ")[2].partition("\nheaders")[0])
    assert row == dict.fromkeys(mixed().columns)
    opened.page.get_by_role("button", name="Example values").click()
    opened.page.locator("#curl-code", has_text='"picture": "iVBOR').wait_for()
    assert opened.field("age").input_value() == "50"


def test_names_and_values_that_are_markup_do_nothing(opened: Opened) -> None:
    opened.goto("mixed")
    opened.field("colour").select_option(f"={EVIL_VALUE}")
    opened.field(EVIL).fill("0.25")
    opened.field("notes").fill(EVIL_VALUE)
    opened.predict()
    assert opened.page.locator("img, iframe, object, embed").count() == 0
    assert opened.page.locator("script").count() == 1
    shown = opened.page.locator("#explanation table").first.inner_text()
    assert EVIL in shown
    assert EVIL_VALUE in shown
    assert EVIL in opened.page.locator("#curl-code").inner_text().replace("'\\''", "'").replace('\\"', '"')


# Images and texts --------------------------------------------------------------------------------------------------


def test_an_image_file_becomes_the_pixels_that_the_model_reads(
    opened: Opened, predictors: dict[str, Predictor], tmp_path: Path
) -> None:
    pixels = np.random.default_rng(5).integers(0, 256, (12, 8), dtype=np.uint8)
    (tmp_path / "digit.png").write_bytes(png(pixels))
    opened.goto("digits")
    opened.field("pixels").set_input_files(tmp_path / "digit.png")
    opened.page.locator("figcaption", has_text="digit.png").wait_for()
    code = opened.page.locator("#curl-code").inner_text()
    assert json.loads(code.partition("--data-binary '")[2].rstrip("'"))["rows"] == [{"pixels": pixels.ravel().tolist()}]
    sentence = opened.predict()
    expected = predictors["digits"].predict({"pixels": [pixels.ravel().tolist()]})
    prediction = expected["prediction"][0]
    assert sentence.startswith(f"digit: {prediction}, ")
    assert _share(sentence) == pytest.approx(expected[f"probability_{prediction}"][0], abs=6e-4)
    assert opened.page.locator("#answer tbody tr").count() == 10
    picture = opened.page.locator("canvas.saliency")
    assert (picture.get_attribute("aria-label") or "").startswith("Saliency of pixels")
    data = "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
    assert picture.evaluate(f"{data.replace('=> ', '=> new Set(')}).size") > 50
    assert opened.page.get_by_role("table", name="Weights of the parts of pixels").locator("tbody tr").count() == 9
    opened.screenshot("image")


def test_an_encoded_image_is_sent_as_it_is(opened: Opened, predictors: dict[str, Predictor], tmp_path: Path) -> None:
    image = png(np.random.default_rng(6).integers(0, 256, (30, 50, 3), dtype=np.uint8))
    (tmp_path / "it's $& a picture.png").write_bytes(image)
    opened.goto("mixed")
    opened.field("picture").set_input_files(tmp_path / "it's $& a picture.png")
    opened.page.locator("figcaption", has_text="it's $& a picture.png").wait_for()
    sentence = opened.predict()
    _check_sentence(sentence, predictors["mixed"].predict(_example(picture=image)))


def test_a_file_that_is_not_an_image_is_an_error_at_its_field(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    opened.goto("digits")
    opened.field("pixels").set_input_files(tmp_path / "a.png")
    error = opened.page.locator(".error", has_text="cannot read the file as an image")
    error.wait_for()
    assert error.count() == 1


def test_a_text_shows_the_weight_of_each_token(opened: Opened, predictors: dict[str, Predictor]) -> None:
    opened.goto("reviews")
    opened.field("review").fill("good plane über storm")
    sentence = opened.predict()
    expected = predictors["reviews"].predict({"review": ["good plane über storm"]})["prediction"][0]
    assert float(sentence.removeprefix("stars: ").replace(",", "")) == pytest.approx(expected, rel=1e-3)
    tokens = opened.page.locator(".tokens span")
    rows = opened.page.get_by_role("table", name="Weights of the tokens of review").locator("tbody tr")
    assert tokens.count() == rows.count() > 3
    opened.screenshot("text")


@pytest.mark.parametrize("language", ["curl", "python"])
def test_the_code_makes_the_same_request(opened: Opened, tmp_path: Path, language: str) -> None:
    image = png(np.random.default_rng(6).integers(0, 256, (64, 64, 3), dtype=np.uint8))  # too long to write it out
    (tmp_path / "it's $& one.png").write_bytes(image)
    opened.goto("mixed")
    opened.field("picture").set_input_files(tmp_path / "it's $& one.png")
    opened.field("notes").fill("quotes ' \" $HOME `id` \\ %s\nand é")
    opened.page.locator("#curl-code", has_text="one.png").wait_for()
    sentence = opened.predict()
    code = opened.page.locator(f"#{language}-code").inner_text()
    assert len(code) < 3000
    command = ["bash", "-c", code] if language == "curl" else [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout) if language == "curl" else ast.literal_eval(done.stdout)
    found = answer["predictions"][0]
    assert sentence.startswith(f"answer: {found['prediction']}, ")
    assert _share(sentence) == pytest.approx(max(found["probability"], 1 - found["probability"]), abs=6e-4)


def test_the_code_can_be_copied(opened: Opened) -> None:
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.goto("reviews")
    opened.page.get_by_role("button", name="Copy the curl code").click()
    opened.page.locator("#copied", has_text="Copied.").wait_for()
    copied = opened.page.evaluate("navigator.clipboard.readText()")
    assert copied == opened.page.locator("#curl-code").inner_text()


def test_another_model_is_chosen_without_a_new_page(opened: Opened) -> None:
    opened.goto("mixed")
    opened.page.evaluate("window.sameDocument = true")
    opened.page.get_by_role("link", name="reviews", exact=True).click()
    opened.page.get_by_role("heading", name="reviews", level=1).wait_for()
    assert opened.page.url.endswith("/?model=reviews")
    assert opened.page.title() == "reviews · Farandole"
    assert opened.predict().startswith("stars: ")
    opened.page.get_by_role("link", name="Card", exact=True).click()
    opened.page.go_back()
    assert opened.page.locator("#said").inner_text().startswith("stars: "), "a move within the page keeps its state"
    opened.page.go_back()
    opened.page.get_by_role("heading", name="mixed", level=1).wait_for()
    assert opened.page.evaluate("window.sameDocument") is True


@pytest.fixture(scope="module")
def guarded(bundles: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a service with access control; return its address, and a key for each set of scopes."""
    folder = tmp_path_factory.mktemp("access")
    keys = {"predict": _make_key(folder, "predict"), "both": _make_key(folder, "predict", "explain")}
    paths = [str(bundles["reviews"]), str(bundles["digits"])]
    home = {"FARANDOLE_HOME": str(folder / "home")}
    with running_service(*paths, "--access-dir", str(folder), "--workers", "1", environment=home) as service:
        yield service.url, keys


def _make_key(folder: Path, *scopes: str) -> str:
    command = [FARANDOLE, "keys", "create", "--name", "-".join(scopes), "--directory", str(folder), "--json"]
    for scope in scopes:
        command += ["--scope", scope]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)["key"])


def _use_key(opened: Opened, key: str) -> None:
    opened.page.get_by_label("API key or token").fill(key)
    opened.page.keyboard.press("Enter")


def test_the_page_of_a_guarded_service_opens_with_a_key_that_it_forgets(
    open_page: Callable[..., Opened], guarded: tuple[str, dict[str, str]]
) -> None:
    address, keys = guarded
    opened = open_page(address)
    opened.page.goto(f"{address}/?model=digits")
    assert opened.page.locator("form, .field, nav").count() == 0
    assert opened.page.locator("h1").all_inner_texts() == ["Model service"]
    opened.screenshot("locked")
    _use_key(opened, "not-a-key")
    opened.page.locator("#key-state", has_text="does not accept this key").wait_for()
    assert opened.page.evaluate("document.activeElement.id") == "key"
    _use_key(opened, keys["both"])
    opened.page.get_by_role("heading", name="digits", level=1).wait_for()
    assert opened.page.locator("h1").count() == 1
    opened.page.get_by_role("link", name="reviews", exact=True).click()
    opened.page.get_by_role("heading", name="reviews", level=1).wait_for()
    assert opened.predict().startswith("stars: ")
    assert "$FARANDOLE_API_KEY" in opened.page.locator("#curl-code").inner_text()
    assert keys["both"] not in opened.page.content()
    kept = "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, history.state])"
    assert keys["both"] not in opened.page.evaluate(kept)
    assert not any(keys["both"] in request for request in opened.requests)
    opened.page.reload()
    assert opened.page.locator("form").count() == 0
    assert opened.page.get_by_label("API key or token").input_value() == ""


def test_a_key_without_the_scope_of_explanations_predicts_without_them(
    open_page: Callable[..., Opened], guarded: tuple[str, dict[str, str]]
) -> None:
    address, keys = guarded
    opened = open_page(address)
    opened.page.goto(f"{address}/?model=reviews")
    _use_key(opened, keys["predict"])
    opened.page.get_by_role("button", name="Predict", exact=True).click()
    opened.page.locator("#explanation .problem", has_text="lacks the scope explain").wait_for()
    assert opened.page.locator("#said").inner_text().startswith("stars: ")


@pytest.mark.parametrize("language", ["curl", "python"])
def test_the_code_of_a_guarded_service_takes_the_key_from_the_environment(
    open_page: Callable[..., Opened], guarded: tuple[str, dict[str, str]], language: str
) -> None:
    address, keys = guarded
    opened = open_page(address)
    opened.page.goto(f"{address}/?model=reviews")
    _use_key(opened, keys["predict"])
    code = opened.page.locator(f"#{language}-code").inner_text()
    command = ["bash", "-c", code] if language == "curl" else [sys.executable, "-c", code]
    environment = {**os.environ, "FARANDOLE_API_KEY": keys["predict"]}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "'predictions'" in done.stdout.replace('"', "'")
