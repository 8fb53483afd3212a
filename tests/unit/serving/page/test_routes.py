"""The answers of the page: its HTML with names that try to be markup, its files, and its headers."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from farandole.bundle import open_bundle
from farandole.serving.page import MODEL_PATH, PUBLIC_PATHS, ShownModel, page_routes
from farandole.serving.page.routes import asset_version
from tests.support.page_models import EVIL, EVIL_VALUE, digits, mixed, write_without_network
from tests.support.paths import PACKAGE

_VOID = {"meta", "link", "input", "br", "hr", "img"}
_FOLDER = PACKAGE / "serving" / "page"


class Parsed(HTMLParser):
    """The elements of a page with their attributes, and its text; every opened element must be closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def of(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name in tags]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[ShownModel]:
    folder = tmp_path_factory.mktemp("bundles")
    models: list[ShownModel] = []
    for name, preprocessing in ((EVIL_VALUE, mixed()), ("digits & co", digits())):
        path = folder / str(len(models))
        write_without_network(path, "made", preprocessing)
        models.append(ShownModel(name, open_bundle(path), "7"))
    return models


@pytest.fixture
def client(shown: list[ShownModel]) -> Callable[..., TestClient]:
    def client(*, guarded: bool = False, models: list[ShownModel] | None = None) -> TestClient:
        served = shown if models is None else models
        return TestClient(Starlette(routes=page_routes(lambda: served, guarded=guarded)))

    return client


def test_the_page_shows_the_first_model_with_names_as_text(client: Callable[..., TestClient]) -> None:
    answer = client().get("/")
    page = Parsed(answer.text)
    assert answer.status_code == 200
    assert EVIL_VALUE in page.texts
    assert EVIL in page.texts
    assert [attributes.get("src") for attributes in page.of("script")] == [f"page/assets/{asset_version()}/page.js"]
    assert page.of("img") == []
    assert any(attributes.get("data-column") == EVIL for attributes in page.of("div"))
    assert any(attributes.get("value") == f"={EVIL_VALUE}" for attributes in page.of("option"))


def test_the_page_has_no_inline_code_and_no_foreign_address(client: Callable[..., TestClient]) -> None:
    page = Parsed(client().get("/").text)
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
    assert page.of("style") == []
    addresses = [attributes.get(name) or "" for name in ("src", "href") for attributes in page.of("script", "link")]
    assert all(not address or address.startswith("page/assets/") for address in addresses)


def test_every_control_has_a_label_and_its_hint_and_error(client: Callable[..., TestClient]) -> None:
    page = Parsed(client().get("/").text)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = {attributes.get("for") for attributes in page.of("label")}
    for attributes in page.of("input", "select", "textarea"):
        assert attributes["id"] in labelled or attributes["id"] == "explain"  # which is inside its label
        assert set((attributes.get("aria-describedby") or "").split()) <= set(ids)
    assert len(page.of("h1")) == 1
    assert page.of("html")[0]["lang"] == "en"
    assert len(page.of("fieldset")) == len(page.of("legend")) == 1


def test_an_example_of_several_lines_keeps_its_first_empty_line(client: Callable[..., TestClient]) -> None:
    assert '">\nla</textarea>' in client().get("/").text


def test_another_model_is_chosen_by_name(client: Callable[..., TestClient], shown: list[ShownModel]) -> None:
    page = Parsed(client().get("/", params={"model": "digits & co"}).text)
    assert page.of("article")[0]["data-model"] == "digits & co"
    links = {
        attributes["data-model-link"]: attributes for attributes in page.of("a") if "data-model-link" in attributes
    }
    assert set(links) == {model.name for model in shown}
    assert links["digits & co"] == {
        "href": "?model=digits+%26+co", "data-model-link": "digits & co", "aria-current": "page"
    }  # fmt: skip


@pytest.mark.parametrize("path", ["/", MODEL_PATH])
def test_an_unknown_model_is_not_found(client: Callable[..., TestClient], path: str) -> None:
    answer = client().get(path, params={"model": "<i>other</i>"})
    assert answer.status_code == 404
    assert "&lt;i&gt;other&lt;/i&gt;" in answer.text
    assert len(Parsed(answer.text).of("h1")) == 1


def test_a_service_without_a_model_says_so(client: Callable[..., TestClient]) -> None:
    assert "has not loaded a model" in client(models=[]).get("/").text


def test_the_page_of_a_guarded_service_reveals_nothing(client: Callable[..., TestClient]) -> None:
    guarded = client(guarded=True)
    for model in (None, "digits & co", "other"):
        answer = guarded.get("/", params={"model": model} if model else None)
        assert answer.status_code == 200
        for secret in ("digits", "colour", "sha256:", "img src", "answer"):
            assert secret not in answer.text
    assert "colour" in guarded.get(MODEL_PATH).text


def test_public_paths_are_the_page_and_its_files(client: Callable[..., TestClient]) -> None:
    page = Parsed(client(guarded=True).get("/").text)
    own = [attributes.get("src") or attributes.get("href") or "" for attributes in page.of("script", "link")]
    assert all(f"/{path}".startswith(PUBLIC_PATHS[1]) for path in own)
    assert not any(MODEL_PATH.startswith(path) for path in PUBLIC_PATHS if path != "/")


@pytest.mark.parametrize(
    "path", ["/", "/?model=x", MODEL_PATH, f"/page/assets/{asset_version()}/page.css", "/page/assets/0/x"]
)
def test_every_answer_has_a_strict_policy(client: Callable[..., TestClient], path: str) -> None:
    headers = client().get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert not re.search(r"unsafe|http|\*|data:", policy)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"


def test_pages_are_not_stored_and_their_files_are_kept(client: Callable[..., TestClient]) -> None:
    assert client().get("/").headers["cache-control"] == "no-store"
    assert client().get(MODEL_PATH).headers["cache-control"] == "no-store"
    answer = client().get(f"/page/assets/{asset_version()}/page.js")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_every_file_of_the_page_is_served_with_its_type(client: Callable[..., TestClient]) -> None:
    types = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
    files = [path for path in _FOLDER.iterdir() if path.suffix in types]
    assert len(files) > 5
    for path in files:
        answer = client().get(f"/page/assets/{asset_version()}/{path.name}")
        assert answer.headers["content-type"].partition(";")[0] == types[path.suffix]
        assert answer.content == path.read_bytes()


@pytest.mark.parametrize("name", ["routes.py", "page.html.j2", "..%2froutes.py", "none.js"])
def test_other_files_are_not_served(client: Callable[..., TestClient], name: str) -> None:
    assert client().get(f"/page/assets/{asset_version()}/{name}").status_code == 404


def test_a_file_of_another_version_is_not_served(client: Callable[..., TestClient]) -> None:
    assert client().get("/page/assets/0123456789abcdef/page.js").status_code == 404


def test_scripts_import_only_each_other_and_name_no_host() -> None:
    for path in _FOLDER.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        for imported in re.findall(r'from "([^"]+)"', text):
            assert (_FOLDER / imported).is_file()
        assert set(re.findall(r"https?://[^\"]+", text)) <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|Storage\b|cookie", text)


def test_the_wheel_has_the_files_of_the_page() -> None:
    project = tomllib.loads((PACKAGE.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["*"]
    needed = {f"*{path.suffix}" for path in _FOLDER.iterdir() if path.is_file() and path.suffix != ".py"}
    assert needed <= set(patterns)


@pytest.mark.parametrize(
    "path", sorted(path for path in _FOLDER.iterdir() if path.suffix in (".css", ".js", ".j2")), ids=str
)
def test_files_stay_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 300
    assert path.suffix != ".js" or max(map(len, lines)) <= 160


def test_a_model_that_replaces_another_one_is_shown_at_once(tmp_path: Path) -> None:
    models = []
    for version in ("1", "2"):
        write_without_network(tmp_path / version, "made", digits())
        models.append(ShownModel("made", open_bundle(tmp_path / version), version))
    served = [models[0]]
    client = TestClient(Starlette(routes=page_routes(lambda: served, guarded=False)))
    for model in models:
        served[:] = [model]
        for _ in range(2):
            assert f"<dd>{model.version}</dd>" in client.get("/").text
