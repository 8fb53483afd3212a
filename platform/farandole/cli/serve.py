"""`farandole serve`: answers requests for predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from farandole.cli.completion import job_files
from farandole.cli.help import PlainCommand
from farandole.cli.pipeline import Overrides

_MB = 2**20


def add_to(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(cls=PlainCommand, rich_help_panel="Models")(serve)


def serve(
    context: typer.Context,
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL|JOB.yaml",
            help="Bundles' directories, models:/NAME/VERSION, models:/NAME@ALIAS, runs:/RUN_ID/model; or a job file.",
            autocompletion=job_files,
        ),
    ],
    overrides: Overrides = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="The port; 0: any free one.")] = 8000,
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes. Default: one for each core.", show_default=False)
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(metavar="SHARES", help="Shares of versions: champion=0.9,challenger=0.1."),
    ] = None,
    shadow: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="A version that receives copies of requests and answers none."),
    ] = None,
    no_auth: Annotated[bool, typer.Option("--no-auth/--auth", help="Answer callers without a key.")] = False,
    terse_errors: Annotated[
        bool, typer.Option("--terse-errors/--full-errors", help="Leave rows, columns and values out of errors.")
    ] = False,
    form: Annotated[
        str | None, typer.Option(metavar="FORM", help="Form of the network: eager, program, onnx or int8.")
    ] = None,
    public_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key that must have signed every bundle.")
    ] = None,
    poll: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="How often aliases are looked up; 0: never.")
    ] = 10.0,
    batch_rows: Annotated[int, typer.Option(metavar="N", min=1, help="Most rows of a batch.")] = 64,
    batch_delay: Annotated[
        float, typer.Option(metavar="MS", min=0, help="How long an idle worker waits for more rows.")
    ] = 0.0,
    queue_rows: Annotated[int, typer.Option(metavar="N", min=1, help="Rows that may wait in a worker.")] = 4096,
    deadline: Annotated[float, typer.Option(metavar="SECONDS", min=0.001, help="The longest answer.")] = 10.0,
    max_body: Annotated[float, typer.Option(metavar="MB", min=0.001, help="The largest body.")] = 16.0,
    max_rows: Annotated[int, typer.Option(metavar="N", min=1, help="Most rows of a request.")] = 10_000,
    max_columns: Annotated[int, typer.Option(metavar="N", min=1, help="Most columns of a request.")] = 1_000,
    max_request_time: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.01, help="Time for a request's head, and for its body.")
    ] = 10.0,
    nan: Annotated[
        str, typer.Option(metavar="POLICY", help="NaN in a request: refuse it, or take it as missing.")
    ] = "refuse",
    payload_log: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Log rows, after the privacy policies, to Parquet files.")
    ] = None,
    request_log: Annotated[
        bool, typer.Option("--request-log/--no-request-log", help="Log a line for each request, without inputs.")
    ] = True,
    access_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keys, limits and audit log. Default: $FARANDOLE_HOME/access.")
    ] = None,
    audit: Annotated[
        str, typer.Option(metavar="POLICY", help="Audit log: on, off, or required (refuse what is not recorded).")
    ] = "on",
    oidc_issuer: Annotated[str | None, typer.Option(metavar="URL", help="Accept bearer tokens of it.")] = None,
    oidc_audience: Annotated[str | None, typer.Option(metavar="TEXT", help="The audience of its tokens.")] = None,
    oidc_keys: Annotated[str | None, typer.Option(metavar="URL|FILE", help="Its JWK set.")] = None,
    oidc_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The authority of the keys' server, PEM.")
    ] = None,
    oidc_roles: Annotated[str, typer.Option(metavar="CLAIM", help="The claim with the roles.")] = "roles",
    oidc_rate: Annotated[
        str | None, typer.Option(metavar="N/PERIOD", help="Most requests of each subject, as in 10/s or 600/min.")
    ] = None,
    oidc_daily_rows: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most rows of each subject in a day (UTC).")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(metavar="FILE", help="The server's certificate, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="FILE", help="Its private key, PEM.")] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Demand clients' certificates of this authority.")
    ] = None,
    hsts_max_age: Annotated[
        int, typer.Option(metavar="SECONDS", min=0, help="With TLS: how long browsers use nothing else; 0: not asked.")
    ] = 31_536_000,
) -> None:
    """Serve models: predictions, explanations, metrics. A job file's `serve` part may give all options."""
    from farandole.cli import serve_options

    serve_options.require_libraries()
    from farandole.serving.service import (
        Address,
        BatchLimits,
        DeploymentPlan,
        RequestLimits,
        ServiceSettings,
        Supervisor,
    )

    chosen = serve_options.chosen(serve_options.given(context), models, overrides or ())
    plan = DeploymentPlan(chosen.models, chosen.split, chosen.shadow, chosen.public_key, chosen.form)
    settings = ServiceSettings(
        form=chosen.form,
        batches=BatchLimits(chosen.batch_rows, chosen.batch_delay / 1000, chosen.queue_rows, chosen.deadline),
        limits=RequestLimits(
            round(chosen.max_body * _MB),
            chosen.max_rows,
            chosen.max_columns,
            header_s=chosen.max_request_time,
            body_s=chosen.max_request_time,
        ),
        not_a_number=chosen.nan,
        is_open=chosen.no_auth,
        terse_errors=chosen.terse_errors,
        log_requests=chosen.request_log,
        payload_log=chosen.payload_log,
        access=serve_options.access(chosen),
        tls=serve_options.tls(chosen),
        hsts_s=chosen.hsts_max_age,
        public_key=chosen.public_key,
    )
    address = Address(chosen.host, chosen.port)
    Supervisor(plan, settings, address, chosen.workers or serve_options.cores(), chosen.poll).run()
