"""Options of `farandole serve`, from the command line and from the `serve` part of a job file."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from farandole.errors import UnavailableError, UserError
from farandole.spec import Serve, load_job

_LIBRARIES = ("fastapi", "uvicorn", "httptools", "uvloop", "orjson", "prometheus_client", "joserfc")


def require_libraries() -> None:
    """Check that the libraries of the service are installed.

    Raises:
        UnavailableError: One is missing.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise UnavailableError(
            f"farandole serve needs {', '.join(missing)}, which are not installed; pip install 'farandole[serve]'"
        )


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def given(context: typer.Context) -> dict[str, Any]:
    """Return the options that the command line gives, under the names of the fields of a job file's `serve` part.

    Raises:
        UserError: An option has a wrong value.
    """
    values: dict[str, Any] = {}
    for name, value in context.params.items():
        source = context.get_parameter_source(name)
        if name in Serve.model_fields and name != "models" and source is not None and source.name == "COMMANDLINE":
            values[name] = str(value.absolute()) if isinstance(value, Path) else value
    _check_words(values)
    if "port" in values:
        port_number(values["port"])
    if "split" in values:
        from farandole.serving.service.settings import parse_split

        values["split"] = parse_split(values["split"])
    if "shadow" in values:
        values["shadow"] = tuple(values["shadow"])
    return values


def _check_words(values: Mapping[str, Any]) -> None:
    for name, words in (("nan", ("refuse", "missing")), ("audit", ("on", "off", "required"))):
        if name in values and values[name] not in words:
            raise UserError(f"--{name}: {values[name]!r}: write {', '.join(words[:-1])} or {words[-1]}")


def chosen(options: Mapping[str, Any], models: Sequence[str], overrides: Sequence[str] = ()) -> Serve:
    """Return how to serve: the `serve` part of a job file, if one is among the models, changed by the options.

    The store of a job's models is its `tracking.uri`.

    Args:
        options: The result of `given`.
        models: MODELs and at most one job file; MODELs beside a job file replace those of its `serve` part.
        overrides: `a.b=value` each, for the job file.

    Raises:
        UserError: There are two job files, or overrides without one.
        SpecError: The job file cannot be read or breaks rules, or no model is named.
    """
    files = [model for model in models if is_job_file(model)]
    if not files:
        if overrides:
            raise UserError("--set: changes fields of a job file; give one, for example job.yaml")
        return Serve().model_copy(update={**options, "models": tuple(models)})
    if len(files) > 1:
        raise UserError(f"{files[1]}: is a second job file; give one, and name its models in `serve.models`")
    job = load_job(files[0], overrides)
    part = (job.serve or Serve()).model_copy(update=options)
    if job.tracking.uri is not None:
        os.environ["MLFLOW_TRACKING_URI"] = job.tracking.uri
    named = tuple(model for model in models if model not in files)
    return part.model_copy(update={"models": named or part.models_of(job.tracking.register_as)})


def is_job_file(model: str) -> bool:
    """Return whether an argument names a job file; a model is a directory or a reference."""
    return model.endswith((".yaml", ".yml")) and not Path(model).is_dir()


def access(chosen: Serve) -> dict[str, Any]:
    """Return the options of access control.

    Raises:
        UserError: Options for tokens are incomplete, or the rate of their subjects is not one.
    """
    from farandole.serving.access import access_directory

    options: dict[str, Any] = {
        "directory": chosen.access_dir or str(access_directory().absolute()),
        "audit": chosen.audit != "off",
        "audit_required": chosen.audit == "required",
    }
    tokens = _tokens(chosen)
    return {**options, "tokens": tokens} if tokens else options


def _tokens(chosen: Serve) -> dict[str, Any] | None:
    """Return the rules for bearer tokens; None: they are not accepted."""
    from farandole.serving.access import parse_rate

    needed = {"issuer": chosen.oidc_issuer, "audience": chosen.oidc_audience, "keys": chosen.oidc_keys}
    if not any((*needed.values(), chosen.oidc_ca, chosen.oidc_rate, chosen.oidc_daily_rows)):
        return None
    missing = [f"--oidc-{name}" for name, value in needed.items() if not value]
    if missing:
        raise UserError(f"{missing[0]}: is missing; tokens need --oidc-issuer, --oidc-audience and --oidc-keys")
    return {
        **needed,
        "authority": chosen.oidc_ca,
        "roles_claim": chosen.oidc_roles,
        "rate": str(parse_rate(chosen.oidc_rate, "--oidc-rate")) if chosen.oidc_rate else None,
        "daily_rows": chosen.oidc_daily_rows,
    }


def tls(chosen: Serve) -> dict[str, str | None]:
    """Return the files for TLS, checked; nothing for plain HTTP.

    Raises:
        UserError: A file is missing or wrong.
    """
    from farandole.serving.access import TlsFiles

    certificate, key, client_authority = chosen.tls_cert, chosen.tls_key, chosen.tls_client_ca
    if certificate is None and key is None and client_authority is None:
        return {}
    if certificate is None or key is None:
        raise UserError("--tls-cert, --tls-key: name both files")
    authority = Path(client_authority) if client_authority else None
    TlsFiles(Path(certificate), Path(key), client_authority=authority).check()
    return {"certificate": certificate, "key": key, "client_authority": client_authority}


def port_number(port: int) -> int:
    """Return the port.

    Raises:
        UserError: It is not one.
    """
    if not 0 <= port <= 65_535:
        raise UserError(f"--port {port}: is not a port; choose one from 1 to 65535, or 0 for any free one")
    return port
