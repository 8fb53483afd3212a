"""The same training by one rank and by two, with every setting of computation and synchronization."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from farandole.launch.script import run_script
from farandole.process.messages import WORKERS_VARIABLE
from farandole.spec import Job
from farandole.training import world
from tests.support.in_gang import PLAIN, STEPS, VARIANTS, UnusualNetwork, embedding_ids, train
from tests.support.paths import SUPPORT

pytestmark = pytest.mark.slow

MakeJob = Callable[..., Job]
SAME_AS = {
    "accumulated": "plain",
    "bucketed": "plain",
    "profiled": "plain",
    "sharded": "plain",
    "sharded_clipped": "clipped",
    "adamw_sharded": "adamw",
    "complex_sharded": "complex",
}
"""Variants that learn the same as another one."""


COMPLEX: dict[str, dict[str, Any]] = {
    "complex": {"ema": {"decay": 0.9}, "clip_norm": 0.5},
    "complex_sharded": {"ema": {"decay": 0.9}, "clip_norm": 0.5, "shard_optimizer": True},
}
"""Settings in `train` of trainings of a network with complex weights and buffers."""


@dataclass
class Gang:
    """Results of two ranks."""

    out: Path

    def of(self, name: str, rank: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(self.out / f"{name}-{rank}.pt", weights_only=False)
        assert "error" not in found, found["error"]
        return found

    def raw(self, name: str, rank: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(self.out / f"{name}-{rank}.pt", weights_only=False)
        return found


def _spec(make_job: MakeJob, model: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    mlp = {"builder": "farandole.models.mlp:build", "options": {"hidden": [16, 8], "dropout": 0.0}}
    job = make_job(train={**PLAIN, **changes}, model=model or mlp)
    return job.model_dump(mode="json")


@pytest.fixture(scope="module")
def specs(module_home: Path, make_module_job: MakeJob) -> dict[str, dict[str, Any]]:
    network = {"builder": "network:build_complex", "options": {}}
    found = {name: _spec(make_module_job, **changes) for name, changes in VARIANTS.items()}
    return found | {name: _spec(make_module_job, network, **changes) for name, changes in COMPLEX.items()}


@pytest.fixture(scope="module")
def gang(specs: dict[str, dict[str, Any]], make_module_job: MakeJob, tmp_path_factory: pytest.TempPathFactory) -> Gang:
    """Run two ranks, once for all tests of this file."""
    out = tmp_path_factory.mktemp("gang")
    dropping = {"builder": "network:build_overflowing", "options": {}}
    jobs = {**specs, "overflowing": _spec(make_module_job, model=dropping)}
    request = out / "request.json"
    request.write_text(json.dumps({"jobs": jobs, "out": str(out), "traps": True}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOROVOD_TIMELINE", "DYNAMIC")  # as the launcher sets it for `train.profile`
        assert run_script(SUPPORT / "in_gang.py", [str(request)], workers=2) == 0
    return Gang(out)


@pytest.fixture(scope="module")
def alone(specs: dict[str, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Return a function that trains a variant with one rank, in this process."""
    known: dict[str, dict[str, Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(WORKERS_VARIABLE, "1")
        patch.setenv("HOROVOD_TIMELINE", "DYNAMIC")
        with world.init() as one:

            def of(name: str) -> dict[str, Any]:
                if name not in known:
                    known[name] = train(specs[name], one, tmp_path_factory.mktemp(name))
                    assert "error" not in known[name], known[name]["error"]
                return known[name]

            yield of


TOLERANCE = {"bf16": 5e-3, "fp16": 2e-3, "compressed": 2e-3}


@pytest.mark.parametrize("name", [*VARIANTS, *COMPLEX])
def test_two_ranks_learn_the_same_as_one(gang: Gang, alone: Callable[[str], Any], name: str) -> None:
    near = TOLERANCE.get(name, 1e-5)
    together, single = gang.of(name), alone(name)
    assert together["steps"] == single["steps"]
    torch.testing.assert_close(together["weights"], single["weights"], rtol=near * 10, atol=near)
    assert together["logged"]["train.loss"] == pytest.approx(single["logged"]["train.loss"], rel=near * 10)
    assert together["validation"] == pytest.approx(single["validation"], abs=near * 10)


@pytest.mark.parametrize("name", [*VARIANTS, *COMPLEX])
def test_all_ranks_have_identical_weights(gang: Gang, name: str) -> None:
    first, second = gang.of(name, 0)["weights"], gang.of(name, 1)["weights"]
    assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("name", "other"), SAME_AS.items())
def test_equivalent_settings_learn_the_same(gang: Gang, name: str, other: str) -> None:
    torch.testing.assert_close(gang.of(name)["weights"], gang.of(other)["weights"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["clipped", "averaged", "smoothed", "bf16", "adamw"])
def test_other_settings_change_the_result(gang: Gang, name: str) -> None:
    plain, other = gang.of("plain")["weights"], gang.of(name)["weights"]
    assert any(not torch.allclose(plain[key], other[key], rtol=1e-5, atol=1e-6) for key in plain)


def test_early_stopping_ends_all_ranks_with_the_best_weights(gang: Gang) -> None:
    first = gang.of("stopped")
    assert first["steps"] == gang.of("stopped", 1)["steps"] == 2 * gang.of("plain")["steps"]
    assert first["validation"]["roc_auc"] == first["logged"]["validation.roc_auc"][0]
    assert any("stopped early after epoch 2: roc_auc no longer improves on" in text for text in first["messages"])


def test_each_rank_keeps_half_of_a_sharded_state(gang: Gang) -> None:
    whole = gang.of("adamw")["own_state_bytes"]
    for rank in (0, 1):
        assert gang.of("adamw_sharded", rank)["own_state_bytes"] == pytest.approx(whole / 2, rel=0.02)


def test_gathered_sharded_state_equals_the_unsharded_one(gang: Gang, alone: Callable[[str], Any]) -> None:
    whole = gang.of("adamw")["state"]["optimizer"]
    for found in (gang.of("adamw_sharded")["state"]["optimizer"], alone("adamw_sharded")["state"]["optimizer"]):
        assert found["param_groups"] == whole["param_groups"]
        assert found["state"].keys() == whole["state"].keys()
        for number, values in whole["state"].items():
            torch.testing.assert_close(found["state"][number], values, rtol=1e-4, atol=1e-6)


def test_training_resumes_from_a_sharded_state_of_another_number_of_ranks(
    gang: Gang, specs: dict[str, dict[str, Any]], alone: Callable[[str], Any], tmp_path: Path
) -> None:
    alone("plain")  # initializes the gang of one
    one = world.World(0, 1, 0, 1)
    ends = []
    for name, saved in (("adamw", "adamw_sharded"), ("adamw_sharded", "adamw"), ("adamw", "adamw")):
        (tmp_path / saved / name).mkdir(parents=True)
        spec = specs[name]
        spec = {**spec, "train": {**spec["train"], "epochs": 2}}
        found = train(spec, one, tmp_path / saved / name, gang.of(saved)["state"])
        assert "error" not in found, found
        ends.append(found["weights"])
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ends[0], ends[2], rtol=1e-4, atol=1e-5)


def test_all_ranks_skip_the_same_overflowing_steps(gang: Gang) -> None:
    scales = gang.of("fp16")["logged"]["train.loss_scale"]
    assert scales == gang.of("fp16", 1)["logged"]["train.loss_scale"]
    assert all(scale > 0 for scale in scales)


def test_time_is_split_by_rank(gang: Gang) -> None:
    found = gang.of("plain")
    assert len(found["times"]) == 2
    assert all(times["compute_s"] > 0 for times in found["times"])
    for rank in (0, 1):
        for part in ("data_wait", "compute", "all_reduce_wait", "checkpoint"):
            assert len(found["logged"][f"system/rank_{rank}/{part}_ms"]) == 4


def test_profile_contains_traces_of_all_ranks_and_horovods_timeline(gang: Gang) -> None:
    directory = gang.out / "profiled" / "profile"
    for rank in (0, 1):
        trace = json.loads((directory / f"torch-rank-{rank}.json").read_text())
        names = {event.get("name") for event in trace["traceEvents"]}
        assert "aten::addmm" in names
        assert any("Optimizer.step#SGD.step" in str(name) for name in names)
    timeline = (directory / "horovod-timeline.json").read_text()
    assert "gradient.0" in timeline
    assert "ALLREDUCE" in timeline


# Unusual gradients ---------------------------------------------------------------------------------------------


def _expected() -> dict[str, torch.Tensor]:
    """Return the weights after the same steps of plain torch in one process."""
    model = UnusualNetwork()
    for step in range(STEPS):
        model.zero_grad()
        for rank in (0, 1):
            model(embedding_ids(step, rank), sometimes=rank == 1).backward()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    gradient = parameter.grad.to_dense() if parameter.grad.is_sparse else parameter.grad
                    parameter.sub_(0.1 * gradient)
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("variant", ["whole", "grouped", "sharded"])
def test_unusual_gradients_are_summed_as_by_plain_torch(gang: Gang, variant: str) -> None:
    """Sum strided, sparse and bfloat16 gradients, and those that one rank or no rank computes."""
    expected = _expected()
    for rank in (0, 1):
        found = gang.raw("traps", rank)[variant]
        for name, weights in expected.items():
            # bfloat16 has 8 bits, and all other gradients depend on that parameter.
            torch.testing.assert_close(found[name], weights, rtol=0.02, atol=0.02, msg=f"{variant}: {name}")
    first, second = (gang.raw("traps", rank)[variant] for rank in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gradient_computed_twice_in_a_step_is_detected(gang: Gang) -> None:
    assert "was computed twice in one step" in gang.raw("traps")["twice"]


def test_adasum_reports_what_the_build_lacks(gang: Gang) -> None:
    assert gang.raw("traps")["adasum"].startswith("train.horovod.adasum: this build of Horovod has no MPI and no NCCL")


def test_sums_are_the_same_on_all_ranks(gang: Gang) -> None:
    assert gang.raw("traps", 0)["sums"] == gang.raw("traps", 1)["sums"] == [2.0, 1.0]


def test_one_rank_reports_an_infinite_gradient_and_the_other_is_its_victim(gang: Gang) -> None:
    errors = [gang.raw("overflowing", rank)["error"] for rank in (0, 1)]
    (report,) = [error for error in errors if error.startswith("TrainingError")]
    (victim,) = [error for error in errors if not error.startswith("TrainingError")]
    assert "the gradient of " in report
    assert " is not finite at step " in report
    assert ", from row " in report
    assert "although the loss is" in report
    assert victim.startswith("HorovodInternalError")
