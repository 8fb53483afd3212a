"""Services of the manifests, run as processes of this machine.

PostgreSQL, SeaweedFS as S3, and MLflow with passwords; and jobs of authorized and unauthorized users that record there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from pyarrow import fs

from tests.support.k8s_manifests import Object, dashboard_metrics, find, pod_template, render, secrets
from tests.support.machine_pod import machine_pod, program_path
from tests.support.made_data import Made, WriteJob
from tests.support.postgresql import PostgreSQL, running_postgresql
from tests.support.recorded_training import train
from tests.support.service_clients import ask
from tests.support.service_stack import Stack, free_port, health_address, running_container, template_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return render("minimal") + secrets()


@pytest.fixture(scope="module")
def database(objects: list[Object], tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    """Start PostgreSQL with the manifest's arguments of `initdb`, and run the image's initial script."""
    template = template_of(objects, "StatefulSet", "postgresql")
    environment = {each["name"]: each.get("value", "") for each in template["spec"]["containers"][0]["env"]}
    with running_postgresql(*environment["POSTGRES_INITDB_ARGS"].split()) as server:
        pod = machine_pod(
            template, objects, tmp_path_factory.mktemp("postgresql"), path=program_path(server.programs),
            environment={"PGHOST": str(server.sockets), "PGPORT": str(server.port)},
        )  # fmt: skip
        made = pod.run("sh", "/docker-entrypoint-initdb.d/databases.sh")
        assert made.returncode == 0, made.stderr
        yield server


@pytest.fixture(scope="module")
def metrics_port() -> int:
    """Return the port of SeaweedFS's metrics."""
    return free_port()


@pytest.fixture(scope="module")
def storage(objects: list[Object], metrics_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start SeaweedFS and create its buckets; returns its address."""
    template, directory = template_of(objects, "StatefulSet", "seaweedfs"), tmp_path_factory.mktemp("seaweedfs")
    parts = ("master", "volume", "filer", "s3")
    ports = {part: free_port() for part in (*parts, *(f"{part}.grpc" for part in parts))}
    pod = machine_pod(
        template, objects, directory, path=program_path(BIN),
        arguments={"-s3.port": str(ports["s3"]), "-metricsPort": str(metrics_port), "-s3.ip.bind": "127.0.0.1"},
    )  # fmt: skip
    pod.command.extend(f"-{part}.port={ports[part]}" for part in parts if part != "s3")
    pod.command.extend(f"-{part}.port.grpc={ports[f'{part}.grpc']}" for part in parts)
    pod.command.extend(f"-{part}.localSocket={directory / part}.sock" for part in ("filer", "s3"))
    address = f"http://127.0.0.1:{ports['s3']}"
    try:
        with running_container(pod, health_address(template, ports["s3"]), directory / "log"):
            buckets = machine_pod(
                template_of(objects, "Job", "seaweedfs-buckets"), objects, directory, path=program_path(BIN),
                environment={"AWS_ENDPOINT_URL_S3": address},
            )  # fmt: skip
            runs = [buckets.run() for _ in range(2)]
            assert [each.stdout.split() for each in runs] == [
                ["mlflow:", "created", "farandole:", "created"],
                ["mlflow:", "exists", "farandole:", "exists"],
            ], runs
            yield address
    finally:
        for part in parts:  # a killed process leaves them, and no option sets their location
            Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.grpc']}.sock").unlink(missing_ok=True)


@pytest.fixture(scope="module")
def stack(
    objects: list[Object], database: PostgreSQL, storage: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """Start MLflow, and add the user of the jobs."""
    template, directory = template_of(objects, "Deployment", "mlflow"), tmp_path_factory.mktemp("mlflow")
    port = free_port()
    pod = machine_pod(
        template, objects, directory, path=program_path(BIN),
        environment={**database.environment, "AWS_ENDPOINT_URL_S3": storage},
        arguments={"--port": str(port), "--host": "127.0.0.1"},
    )  # fmt: skip
    with running_container(pod, health_address(template, port), directory / "log"):
        address = f"http://127.0.0.1:{port}"
        user = machine_pod(
            template_of(objects, "Job", "mlflow-first-user"), objects, directory, path=program_path(BIN),
            environment={"MLFLOW_TRACKING_URI": address},
        )  # fmt: skip
        first, second = user.run(), user.run()
        assert first.stdout == "jobs: added\n", first.stderr
        assert second.stdout.startswith("jobs: exists, password unchanged"), second.stderr
        yield Stack(objects, database, storage, address, pod, directory)


def _users(stack: Stack, *arguments: str, password: str = "") -> subprocess.CompletedProcess[str]:
    """Run `users.py` like `kubectl exec deploy/mlflow`."""
    command = ("python", "/opt/mlflow/users.py", *arguments)
    return stack.server.run(*command, stdin=password + "\n", more={"MLFLOW_TRACKING_URI": stack.mlflow})


# PostgreSQL and S3 ------------------------------------------------------------------------------------------


def test_mlflow_role_owns_only_its_databases(database: PostgreSQL) -> None:
    roles = database.query(
        "SELECT rolname, rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'mlflow'"
    )
    assert roles == ["mlflow|f|f|f"]
    owned = database.query("SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = 'mlflow' ORDER BY 1")
    assert owned == ["mlflow", "mlflow_auth"]
    assert database.query("SHOW data_checksums") == ["on"]
    stored = database.query("SELECT rolpassword LIKE 'SCRAM-SHA-256$%' FROM pg_authid WHERE rolname = 'mlflow'")
    assert stored == ["t"]


@pytest.mark.parametrize("password", ["", "wrong"])
def test_database_rejects_connections_without_the_password(database: PostgreSQL, password: str) -> None:
    done = subprocess.run(
        [database.programs / "psql", "--no-password", "--command", "SELECT 1", "mlflow"],
        env={**os.environ, **database.environment, "PGUSER": "mlflow", "PGPASSWORD": password},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "password" in done.stderr


def test_each_storage_key_grants_access_to_one_bucket(storage: str, objects: list[Object]) -> None:
    def store(name: str) -> fs.S3FileSystem:
        keys = find(objects, "Secret", name)["stringData"]
        return fs.S3FileSystem(
            access_key=keys["AWS_ACCESS_KEY_ID"], secret_key=keys["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=storage, region="us-east-1",
        )  # fmt: skip

    for name, own, other in (("mlflow-storage", "mlflow", "farandole"), ("farandole-storage", "farandole", "mlflow")):
        with store(name).open_output_stream(f"{own}/probe") as stream:
            stream.write(b"mine")
        with store(name).open_input_stream(f"{own}/probe") as stream:
            assert stream.read() == b"mine"
        with (
            pytest.raises(OSError, match=r"ACCESS_DENIED|AccessDenied|403"),
            store(name).open_output_stream(f"{other}/probe-of-others") as stream,
        ):
            stream.write(b"theirs")
        store(name).delete_file(f"{own}/probe")


def test_store_exports_the_metrics_of_the_dashboard(stack: Stack, metrics_port: int) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=30) as answer:
        output = answer.read().decode()
    wanted = {name for name in dashboard_metrics() if name.startswith("SeaweedFS_")}
    assert wanted
    assert [name for name in sorted(wanted) if f"\n{name}" not in output] == []


# Jobs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(stack: Stack, module_home: Path, write_module_job: WriteJob) -> dict[str, Any]:
    """Train as the user of the jobs; returns the result, and the output."""
    keys = stack.secret("farandole-credentials")
    job = write_module_job(resources__workers=1, tracking={"system_metrics": False, "experiment": "recorded"})
    done = train(job, stack.mlflow, keys["MLFLOW_TRACKING_USERNAME"], keys["MLFLOW_TRACKING_PASSWORD"])
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "output": done.stdout + done.stderr}


def test_job_of_an_authorized_user_is_recorded_with_its_model(
    stack: Stack, recorded: dict[str, Any], module_home: Path
) -> None:
    run_id = recorded["training"]["mlflow_run_id"]
    found = stack.database.query(f"SELECT status FROM runs WHERE run_uuid = '{run_id}'", "mlflow")
    assert found == ["FINISHED"]
    assert stack.database.query("SELECT name, version FROM model_versions", "mlflow") == ["small|1"]
    assert recorded["model"]["uri"] == "models:/small/1"
    stored = stack.bucket("mlflow")
    assert [path for path in stored if path.endswith("MLmodel")], stored
    assert [path for path in stored if run_id in path and "plots" in path], stored
    assert stack.bucket("farandole") == []
    password = stack.secret("farandole-credentials")["MLFLOW_TRACKING_PASSWORD"]
    assert password not in recorded["output"]
    assert not any(password.encode() in path.read_bytes() for path in module_home.rglob("*") if path.is_file())


def test_recorded_model_is_served(
    stack: Stack, recorded: dict[str, Any], made: Callable[..., Made], tmp_path: Path
) -> None:
    """The container of `serving` downloads the model, and answers raw rows of callers whose key is in its Secret."""
    template = pod_template(find(stack.objects, "Deployment", "serving", "farandole"))
    assert template is not None
    port = free_port()
    pod = machine_pod(
        template, stack.objects, tmp_path, path=program_path(BIN),
        environment={
            "MLFLOW_TRACKING_URI": stack.mlflow, "AWS_ENDPOINT_URL_S3": stack.storage,
            "MODEL_URI": recorded["model"]["uri"],
        },
        arguments={"--port": str(port), "--host": "127.0.0.1"},
    )  # fmt: skip
    rows = made("binary").raw["test"].drop(columns="label").head(4)
    body = {"rows": json.loads(rows.to_json(orient="records", date_format="iso"))}
    url = f"http://127.0.0.1:{port}"
    with running_container(pod, health_address(template, port), tmp_path / "log"):
        probes = template["spec"]["containers"][0]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            assert ask(url, probes[probe]["httpGet"]["path"]).status == 200
        assert ask(url, "/predict", body).status == 401
        made_key = pod.run("farandole", "keys", "create", "--name", "web", "--scope", "predict")
        assert made_key.returncode == 0, made_key.stderr
        key = made_key.stdout.strip()
        answer = ask(url, "/predict", body, key=key)
        metrics = ask(url, "/metrics", key=key)
    assert answer.status == 200, answer
    found = answer.json
    assert (found["model"]["name"], found["model"]["version"]) == ("small", "1")
    assert all(0 <= each["probability"] <= 1 for each in found["predictions"])
    assert {each["prediction"] for each in found["predictions"]} <= {"true", "false"}
    assert len(found["predictions"]) == 4
    assert metrics.status == 403, "metrics need the scope admin"
    assert key not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("user", "password"), [("jobs", "not-this-one-surely"), ("nobody", "some-password-of-theirs")])
def test_job_of_an_unknown_user_is_rejected_at_its_start(
    stack: Stack, home: Path, write_job: WriteJob, user: str, password: str
) -> None:
    done = train(write_job(resources__workers=1), stack.mlflow, user, password)
    assert done.returncode == 3, done.stderr
    assert f"tracking.uri: MLflow at {stack.mlflow} rejected the credentials (401)" in done.stderr
    assert "set MLFLOW_TRACKING_PASSWORD" in done.stderr
    assert password not in done.stdout + done.stderr


def test_job_of_a_read_only_user_is_rejected_at_its_start(
    stack: Stack, home: Path, write_job: WriteJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bob created the experiment; Alice can read it, and record elsewhere."""
    for name in ("alice", "bob"):
        added = _users(stack, "add", name, password=f"the-password-of-{name}")
        assert added.returncode == 0, added.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "the-password-of-bob")
    MlflowClient(stack.mlflow).create_experiment("of-bob")
    job = write_job(resources__workers=1, tracking={"system_metrics": False, "experiment": "of-bob"})
    refused = train(job, stack.mlflow, "alice", "the-password-of-alice")
    assert refused.returncode == 3, refused.stderr
    assert f"MLflow at {stack.mlflow} denied access (403" in refused.stderr
    assert "ermission denied" in refused.stderr
    assert (
        stack.request(
            "alice", "the-password-of-alice", "/api/2.0/mlflow/experiments/get-by-name?experiment_name=of-bob"
        )
        == 200
    )


# The server -------------------------------------------------------------------------------------------------


def test_requests_without_an_account_are_rejected(stack: Stack) -> None:
    admin = stack.secret("mlflow")["admin-password"]
    route = "/api/2.0/mlflow/experiments/search?max_results=10"
    assert stack.request("admin", admin, route) == 200
    assert stack.request("admin", "password1234", route) == 401  # the default of older versions
    assert stack.request("nobody", "", route) == 401
    assert stack.request("nobody", "", "/health") == 200


def test_request_for_another_host_is_rejected(stack: Stack) -> None:
    admin = stack.secret("mlflow")["admin-password"]
    route = "/api/2.0/mlflow/experiments/search?max_results=10"
    assert stack.request("admin", admin, route, host="evil.example") == 403
    assert stack.request("admin", admin, route, host="mlflow.farandole-system.svc:5000") == 200


def test_administrator_adds_changes_and_removes_users(stack: Stack) -> None:
    route = "/api/2.0/mlflow/experiments/search?max_results=10"
    assert _users(stack, "add", "carol", password="short").returncode == 2
    assert _users(stack, "add", "carol", password="first-password-of-carol").stdout == "carol: added\n"
    assert "carol" in _users(stack, "list").stdout.split()
    assert stack.request("carol", "first-password-of-carol", route) == 200
    assert _users(stack, "password", "carol", password="second-password-of-carol").returncode == 0
    assert stack.request("carol", "second-password-of-carol", route) == 200
    assert _users(stack, "remove", "carol").returncode == 0
    assert "carol" not in _users(stack, "list").stdout.split()
    usage = _users(stack, "rename", "carol")
    assert (usage.returncode, usage.stderr.split(":")[0]) == (2, "usage")


def test_passwords_appear_in_no_command_line_or_log(stack: Stack) -> None:
    """Command lines are visible to every user of a node."""
    hidden = {
        value for name in ("mlflow", "postgresql-mlflow", "mlflow-storage") for value in stack.secret(name).values()
    }
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text(errors="replace"))
        except OSError:  # the process has ended
            continue
    log = (stack.directory / "log").read_text(errors="replace")
    assert sum("mlflow" in line for line in lines) >= 1
    for value in hidden:
        assert not any(value in line for line in lines)
        assert value not in log


def test_upgrade_job_keeps_a_current_schema(stack: Stack, tmp_path: Path) -> None:
    template = template_of(stack.objects, "CronJob", "mlflow-upgrade")
    pod = machine_pod(template, stack.objects, tmp_path, path=program_path(BIN), environment=stack.database.environment)
    before = stack.database.query("SELECT version_num FROM alembic_version", "mlflow")
    done = pod.run()
    assert done.returncode == 0, done.stderr
    assert stack.database.query("SELECT version_num FROM alembic_version", "mlflow") == before


# Backup -----------------------------------------------------------------------------------------------------


def test_backup_is_restored_completely(stack: Stack, tmp_path: Path) -> None:
    """Rows added after the backup are gone, and deleted rows are back."""
    template = template_of(stack.objects, "CronJob", "postgresql-backup")
    programs = program_path(stack.database.programs)
    pod = machine_pod(template, stack.objects, tmp_path, path=programs, environment=stack.database.environment)
    none = pod.run("sh", "/scripts/restore.sh")
    assert none.returncode == 2
    assert "no such backup" in none.stderr
    backup = pod.run()
    assert backup.returncode == 0, backup.stderr
    (folder,) = pod.mounts["/backups"].iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["mlflow.dump", "mlflow_auth.dump"]
    assert backup.stdout.startswith(f"{folder}: ")

    named = "SELECT name FROM experiments ORDER BY 1"
    before = stack.database.query(named, "mlflow")
    stack.database.query("INSERT INTO experiments (name) VALUES ('later')", "mlflow")
    stack.database.query("DELETE FROM experiments WHERE name = 'Default'", "mlflow")
    assert stack.database.query(named, "mlflow") != before
    restored = pod.run("sh", "/scripts/restore.sh")
    assert restored.returncode == 0, restored.stderr
    assert stack.database.query(named, "mlflow") == before
    assert f"mlflow_auth: restored from {folder.name}" in restored.stdout
    admin = stack.secret("mlflow")["admin-password"]
    assert stack.request("admin", admin, "/api/2.0/mlflow/experiments/search?max_results=10") == 200


def test_old_backups_are_removed_and_failed_ones_not_kept(stack: Stack, tmp_path: Path) -> None:
    template = template_of(stack.objects, "CronJob", "postgresql-backup")
    programs = program_path(stack.database.programs)
    pod = machine_pod(template, stack.objects, tmp_path, path=programs, environment=stack.database.environment)
    backups = pod.mounts["/backups"]
    for name, days in (("20200101T021700Z", 15), ("20200102T021700Z", 13), ("lost+found", 99)):
        (backups / name).mkdir()
        past = time.time() - days * 86_400 - 3600
        os.utime(backups / name, (past, past))
    assert pod.run().returncode == 0
    assert [path.name[:4] for path in sorted(backups.iterdir())] == ["2020", time.strftime("%Y"), "lost"]
    failed = pod.run(more={"PGPASSWORD": "wrong"})
    assert failed.returncode != 0
    assert len([path for path in backups.iterdir() if not path.name.startswith(".")]) == 3
