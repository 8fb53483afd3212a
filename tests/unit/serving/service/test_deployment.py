from __future__ import annotations

from pathlib import Path

import pytest

from farandole.bundle import Bundle
from farandole.errors import UserError
from farandole.serving.service.deployment import DeploymentPlan, is_same
from tests.support.served import make_bundle


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "second", seed=1)


@pytest.fixture(scope="session")
def other(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "other", name="digits")


def plan(*bundles: Bundle, **options: object) -> DeploymentPlan:
    return DeploymentPlan([str(bundle.path) for bundle in bundles], options.pop("split", {}), **options)  # type: ignore[arg-type]


def test_models_of_one_name_are_versions_of_which_the_first_answers(
    bundle: Bundle, second: Bundle, other: Bundle
) -> None:
    found = plan(bundle, other, second).resolve()
    assert list(found.models) == ["flights", "digits"]
    first, more = found.models["flights"]
    assert (first.label, first.version, first.weight) == ("flights", bundle.digest[7:19], 1.0)
    assert (more.label, more.weight, more.is_shadow) == ("second", 0.0, False)
    assert found.models["digits"][0].weight == 1.0


def test_split_and_shadow_name_versions(bundle: Bundle, second: Bundle) -> None:
    found = plan(bundle, second, split={"flights": 0.9, "second": 0.1}).resolve()
    assert [each.weight for each in found.models["flights"]] == [0.9, 0.1]
    found = plan(bundle, second, shadow=["flights"]).resolve()
    assert [(each.weight, each.is_shadow) for each in found.models["flights"]] == [(0.0, True), (1.0, False)]


@pytest.mark.parametrize(
    "options",
    [{"split": {"flights": 0.9, "third": 0.1}}, {"shadow": ["third"]}, {"shadow": ["flights", "second"]}],
    ids=str,
)
def test_split_that_fits_no_version_is_refused(bundle: Bundle, second: Bundle, options: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"--sha|--split"):
        plan(bundle, second, **options).resolve()


def test_link_to_another_bundle_is_a_change(bundle: Bundle, second: Bundle, tmp_path: Path) -> None:
    link = tmp_path / "current"
    link.symlink_to(bundle.path)
    wanted = DeploymentPlan([str(link)], {})
    before = wanted.resolve()
    assert is_same(before, wanted.resolve())
    link.unlink()
    link.symlink_to(second.path)
    after = wanted.resolve()
    assert not is_same(before, after)
    assert after.models["flights"][0].path == str(second.path)


def test_form_that_a_bundle_lacks_is_refused(bundle: Bundle) -> None:
    with pytest.raises(UserError, match="onnx"):
        plan(bundle, form="onnx").resolve()
