"""The `serve` part of a job file: the settings of `farandole serve` for the job's model."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from farandole.errors import SpecError
from farandole.spec.base import PathText, SecretError, Spec, expand_variables, resolve_path

Share = Annotated[float, Field(ge=0, le=1)]
_SECRET_PATHS = ("public_key", "tls_cert", "tls_key", "tls_client_ca", "oidc_ca")
_PEM = "-----BEGIN"
_REGISTRY = ("models:/", "runs:/")


def _check_address(uri: str) -> str:
    """Expand variables in an address; refuse a password."""
    expanded = expand_variables(uri)
    if urlsplit(expanded).password is not None:
        raise SecretError("an address in a job file must not contain a password, since job files are stored; remove it")
    return expanded


Address = Annotated[str, AfterValidator(_check_address)]


def _check_rate(rate: str) -> str:
    if not re.fullmatch(r"0*[1-9]\d{0,8} */ *(s|min|h)", rate.strip()):
        raise ValueError("must be a number of requests and a period, as in 10/s, 600/min or 5000/h")
    return rate


RateText = Annotated[str, AfterValidator(_check_rate)]


def _resolve_model(model: str, info: ValidationInfo) -> str:
    """Return a MODEL; a bundle's directory is a path."""
    return model if model.startswith(_REGISTRY) else resolve_path(model, info)


ModelText = Annotated[str, AfterValidator(_resolve_model)]


class Serve(Spec):
    """The service of the job's model: each field is the option of `farandole serve` with the same name.

    An option on the command line wins. Keys are not part of it: `farandole keys` makes them, and private keys and
    certificates are named by their files.
    """

    models: tuple[ModelText, ...] = ()
    """Bundles' directories, `models:/NAME/VERSION`, `models:/NAME@ALIAS` or `runs:/RUN_ID/model`. Default: the model
    that the job registers (`tracking.register_as`), with `alias`, or with the aliases of `split`."""
    alias: Annotated[str, Field(min_length=1)] = "champion"
    """The alias of the job's model, where `models` and `split` name none."""
    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """The port; 0: any free one."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """The number of processes. Default: one for each core."""
    split: dict[str, Share] = Field(default_factory=dict)
    """Shares of the requests: alias or version to a number from 0 to 1. The shares add up to 1."""
    shadow: tuple[str, ...] = ()
    """Aliases or versions that receive copies of requests and answer none."""
    form: Literal["eager", "program", "onnx", "int8"] | None = None
    """The form of the network. Default: the bundle's choice."""
    public_key: PathText | None = None
    """The file of the key that must have signed every bundle."""
    poll: Annotated[float, Field(ge=0)] = 10.0
    """The seconds between two lookups of aliases; 0: never."""
    batch_rows: Annotated[int, Field(ge=1)] = 64
    """The most rows of a batch."""
    batch_delay: Annotated[float, Field(ge=0)] = 0.0
    """The milliseconds that an idle worker waits for more rows."""
    queue_rows: Annotated[int, Field(ge=1)] = 4096
    """The rows that may wait in a worker; further requests are refused (429)."""
    deadline: Annotated[float, Field(ge=0.001)] = 10.0
    """The longest time for an answer, in seconds."""
    max_body: Annotated[float, Field(ge=0.001)] = 16.0
    """The largest body, in MB."""
    max_rows: Annotated[int, Field(ge=1)] = 10_000
    """The most rows of a request."""
    max_columns: Annotated[int, Field(ge=1)] = 1_000
    """The most columns of a request."""
    max_request_time: Annotated[float, Field(ge=0.01)] = 10.0
    """The time for a request's head, and for its body, in seconds."""
    nan: Literal["refuse", "missing"] = "refuse"
    """A NaN in a request is refused, or taken as a missing value."""
    no_auth: bool = False
    """Answer callers without a key."""
    terse_errors: bool = False
    """Leave rows, columns and values out of errors."""
    request_log: bool = True
    """Log a line for each request, without inputs."""
    payload_log: PathText | None = None
    """The folder for rows and predictions, which the privacy policies of the job are applied to. Default: none."""
    access_dir: PathText | None = None
    """The folder of keys, limits and audit log. Default: `$FARANDOLE_HOME/access`."""
    audit: Literal["on", "off", "required"] = "on"
    """The audit log; `required` refuses requests that cannot be recorded."""
    oidc_issuer: Address | None = None
    """The issuer whose bearer tokens are accepted."""
    oidc_audience: str | None = None
    """The audience of its tokens."""
    oidc_keys: PathText | None = None
    """The address or file of its JWK set, which holds public keys."""
    oidc_ca: PathText | None = None
    """The file of the authority of that address's server, PEM. Default: those that the machine trusts."""
    oidc_roles: Annotated[str, Field(min_length=1)] = "roles"
    """The claim with the roles."""
    oidc_rate: RateText | None = None
    """The most requests of each subject: `10/s`, `600/min` or `5000/h`. Default: no limit."""
    oidc_daily_rows: Annotated[int, Field(ge=1)] | None = None
    """The most rows of each subject in a day (UTC). Default: no limit."""
    tls_cert: PathText | None = None
    """The file of the server's certificate, PEM."""
    tls_key: PathText | None = None
    """The file of its private key, PEM."""
    tls_client_ca: PathText | None = None
    """The file of the authority whose certificates clients must have."""
    hsts_max_age: Annotated[int, Field(ge=0)] = 31_536_000
    """With TLS: for how long browsers use nothing else, in seconds; 0: they are not asked."""

    @field_validator(*_SECRET_PATHS, mode="before")
    @classmethod
    def _refuse_key_itself(cls, value: Any) -> Any:
        if isinstance(value, str) and _PEM in value:
            raise SecretError("holds a key or certificate itself, and job files are stored; write the path of its file")
        return value

    def problems(self) -> list[str]:
        """Return what is wrong with several fields together."""
        problems = [*self._split_problems(), *self._token_problems()]
        if (self.tls_cert is None) != (self.tls_key is None):
            problems.append("serve.tls_cert, serve.tls_key: one without the other; name both files, or neither")
        elif self.tls_client_ca is not None and self.tls_cert is None:
            problems.append("serve.tls_client_ca: without effect; name tls_cert and tls_key as well, or remove it")
        return problems

    def _split_problems(self) -> list[str]:
        total = math.fsum(self.split.values())
        if self.split and abs(total - 1.0) > 1e-6:
            return [f"serve.split: the shares add up to {total:g}; make them add up to 1"]
        return []

    def _token_problems(self) -> list[str]:
        tokens = {"oidc_issuer": self.oidc_issuer, "oidc_audience": self.oidc_audience, "oidc_keys": self.oidc_keys}
        missing = [name for name, value in tokens.items() if not value]
        others = (self.oidc_ca, self.oidc_rate, self.oidc_daily_rows)
        if missing and (len(missing) < len(tokens) or any(others)):
            return [f"serve.{missing[0]}: is missing; tokens need oidc_issuer, oidc_audience and oidc_keys"]
        return []

    def models_of(self, registered: str | None) -> tuple[str, ...]:
        """Return the models to serve.

        Args:
            registered: The name under which the job registers its model; None: it does not.

        Raises:
            SpecError: There is none.
        """
        if self.models:
            return self.models
        if registered is None:
            raise SpecError("serve.models: is missing; name models, or let tracking.register_as name the job's model")
        return (f"models:/{registered}" if self.split else f"models:/{registered}@{self.alias}",)
