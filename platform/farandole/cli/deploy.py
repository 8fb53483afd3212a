"""`deploy` and `undeploy`: a registered model as a service in a cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from farandole.cli.completion import job_files, one_of
from farandole.cli.help import PlainCommand
from farandole.errors import SpecError, UserError
from farandole.process.json_text import json_text

if TYPE_CHECKING:
    from farandole.backends.kubernetes.cluster import Cluster

_BACKENDS = ("kubernetes",)
"""The backends on which services run."""

Backend = Annotated[
    str,
    typer.Option(metavar="NAME", help="Where the service runs: kubernetes.", autocompletion=one_of(*_BACKENDS)),
]
Namespace = Annotated[str | None, typer.Option(metavar="NAME", help="The namespace.", show_default="the kubeconfig's")]
Context = Annotated[
    str | None, typer.Option(metavar="NAME", help="The kubeconfig's context.", show_default="its current one")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout; all else goes to stderr.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to the app."""
    app.command(cls=PlainCommand, rich_help_panel="Models")(deploy)
    app.command(cls=PlainCommand, rich_help_panel="Models")(undeploy)


def deploy(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|JOB.yaml",
            help="models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN_ID/model; or a job file, whose model is served.",
            show_default=False,
            autocompletion=job_files,
        ),
    ],
    backend: Backend = "kubernetes",
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="The service's name.", show_default="the model's")
    ] = None,
    replicas: Annotated[
        str, typer.Option(metavar="MIN:MAX", help="The number of pods, between which the load decides.")
    ] = "2:8",
    image: Annotated[str | None, typer.Option(metavar="IMAGE", help="The pods' image.", show_default="its own")] = None,
    namespace: Namespace = None,
    context: Context = None,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=1, help="How long to wait until it answers.")] = 600,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the objects, and change nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve a registered model in a cluster, and wait until it answers."""
    from farandole.backends.kubernetes.manifests.serving import (
        DEFAULT_IMAGE,
        ServiceSpec,
        object_name,
        parse_replicas,
        render_service,
    )

    _check_backend(backend)
    model = _model(model)
    spec = ServiceSpec(model, object_name(_service_name(model, name)), parse_replicas(replicas), image or DEFAULT_IMAGE)
    if dry_run:
        _print_objects(render_service(spec), as_json=as_json)
        return
    from farandole.backends.kubernetes import serving
    from farandole.cli.progress import event_display

    cluster = _connect(context, namespace)
    with event_display() as on_event:
        found = serving.deploy(cluster, spec, timeout_s=timeout, on_event=on_event)
    if as_json:
        print(json_text(found.to_dict(), indent=2))
        return
    print(f"{found.url} answers with {model}, from {found.replicas} pods")
    print(f"from this machine: kubectl -n {found.namespace} port-forward svc/{found.name} 8080")
    print(f"a key: NAMESPACE={found.namespace} k8s/keys.sh create --name NAME --scope predict")


def undeploy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The service's name.", show_default=False)],
    backend: Backend = "kubernetes",
    namespace: Namespace = None,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Remove a service from its cluster; its keys stay."""
    from farandole.backends.kubernetes import serving
    from farandole.backends.kubernetes.manifests.serving import ACCESS_SECRET, object_name

    _check_backend(backend)
    objects = object_name(name.removeprefix("serving-"))
    cluster = _connect(context, namespace)
    serving.undeploy(cluster, objects)
    if as_json:
        print(json_text({"name": objects, "namespace": cluster.namespace, "state": "removed"}, indent=2))
        return
    print(
        f"{objects} is removed from the namespace {cluster.namespace}; the Secret {ACCESS_SECRET} with the keys stays"
    )


def _connect(context: str | None, namespace: str | None) -> Cluster:
    from farandole.backends.kubernetes.cluster import connect

    return connect(context, namespace)


def _check_backend(backend: str) -> None:
    if backend not in _BACKENDS:
        raise SpecError(
            f"--backend: {backend!r}: services run on {', '.join(_BACKENDS)}; `farandole serve` serves a model on this"
            " machine"
        )


def _model(argument: str) -> str:
    """Return the MODEL that an argument names, be it by a job file.

    Raises:
        SpecError: The `serve` part of the job file names none, or several.
    """
    from farandole.cli.serve_options import is_job_file

    if not is_job_file(argument):
        return argument
    from farandole.spec import Serve, load_job

    job = load_job(argument)
    part = job.serve or Serve()
    models = part.models_of(job.tracking.register_as)
    if len(models) > 1 or part.split:
        raise SpecError(
            f"{argument}: serve: a service in a cluster answers with one version; leave one in `serve.models`, and"
            " remove `serve.split`"
        )
    return models[0]


def _service_name(model: str, name: str | None) -> str:
    """Return the name of a service for a model that the pods can fetch: the given one, or the model's.

    Raises:
        UserError: The model is a directory of this machine, or its name does not say what to call the service.
    """
    from farandole.serving.registry import parse_model

    reference = parse_model(model)
    if reference.directory is not None:
        raise UserError(
            f"{model}: is a directory of this machine, which pods do not see; register the model, and name it as"
            " models:/NAME/VERSION or models:/NAME@ALIAS"
        )
    if name is not None:
        return name
    if reference.name is None:
        raise UserError(f"{model}: has no registered name; choose the service's name by --name")
    return reference.name.lower().replace("_", "-").replace(".", "-")


def _print_objects(objects: list[dict[str, object]], *, as_json: bool) -> None:
    if as_json:
        print(json_text({"objects": objects}, indent=2))
        return
    import yaml

    plain = json.loads(json.dumps(objects))  # without shared parts, which YAML would write as references
    print(yaml.safe_dump_all(plain, sort_keys=False), end="")
