"""The Kubernetes API, as far as we need it: objects as plain data, by kind and name. The only door to the client.

Reads and writes that are safe to repeat are repeated while the API server does not answer, as when it is restarted;
what it refuses becomes an error that names what was asked.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import urllib3
from kubernetes import config as kubeconfig
from kubernetes.client import ApiClient, ApiException, Configuration
from kubernetes.config import ConfigException

from farandole.backends.kubernetes.manifests.names import MANAGER
from farandole.backends.kubernetes.resource_kinds import ResourceKind, resource_kind
from farandole.errors import SpecError, UnavailableError
from farandole.process.retry import Backoff, retry

Object = dict[str, Any]

_CONNECT_S, _READ_S = 5.0, 30.0
_PATIENCE_S = 60.0
"""How long people wait for an API server that does not answer: it restarts in less."""
_POD_PATIENCE_S = 3600.0
"""How long pods do: their work goes on meanwhile."""
_FIRST_ANSWER_S = 30.0
"""The same for the first question: a wrong address is told soon."""
_BACKOFF = Backoff(first_s=0.2, longest_s=5.0)
_BUSY = (429, 500, 502, 503, 504)


class ApiUnreachableError(Exception):
    """The API server does not answer now."""


class ApiError(Exception):
    """The API server answered, and it is no success.

    Args:
        code: The HTTP status.
        reason: Kubernetes' word for it: `Forbidden`, `NotFound`, `Conflict`.
        message: What it says.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


@dataclass
class Cluster:
    """One namespace of one cluster.

    Args:
        client: The official client, signed in.
        namespace: The namespace.
        context: The kubeconfig's context; None: of a pod.
        patience_s: How long an API server that does not answer is asked again.
    """

    client: ApiClient
    namespace: str
    context: str | None
    patience_s: float = _PATIENCE_S
    _answered: bool = False

    # Objects -------------------------------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> Object | None:
        """An object; None: there is none, or not even its kind."""
        try:
            return self._ask("GET", self.path(resource_kind(kind), name))
        except ApiError as answer:
            if answer.code == 404:
                return None
            raise self._error(answer, "get", kind, name) from answer

    def find(self, kind: str, selector: str = "", *, cached: bool = False) -> list[Object]:
        """Objects with these labels; none where there is no such kind.

        Args:
            kind: Their kind.
            selector: A label selector.
            cached: Whether an answer from the server's memory will do.
        """
        query = {"labelSelector": selector, **({"resourceVersion": "0"} if cached else {})}
        try:
            found: list[Object] = self._ask("GET", self.path(resource_kind(kind)), query)["items"]
        except ApiError as answer:
            if answer.code == 404:
                return []
            raise self._error(answer, "list", kind, "") from answer
        return [{"kind": kind, **each} for each in found]

    def events(self, kind: str, name: str) -> list[Object]:
        """What was told about an object."""
        query = {"fieldSelector": f"involvedObject.kind={kind},involvedObject.name={name}"}
        try:
            found: list[Object] = self._ask("GET", self.path(resource_kind("Event")), query)["items"]
        except ApiError as answer:
            raise self._error(answer, "list", "Event", "") from answer
        return found

    def apply(self, wanted: Object, *, dry_run: bool = False) -> Object:
        """Server-side apply, with our field manager. What others set in fields of ours is set back."""
        query = {"fieldManager": MANAGER, "force": "true", **({"dryRun": "All"} if dry_run else {})}
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        try:
            return self._ask(
                "PATCH", self.path(resource_kind(kind), name), query, json.dumps(wanted), "application/apply-patch+yaml"
            )
        except ApiError as answer:
            raise self._error(answer, "patch", kind, name) from answer

    def patch(self, kind: str, name: str, change: Object, *, part: str = "") -> Object | None:
        """Change some fields of an object, or of a part of it such as `scale`; None: it is gone."""
        try:
            return self._ask(
                "PATCH",
                self.path(resource_kind(kind), name) + part,
                {"fieldManager": MANAGER},
                json.dumps(change),
                "application/merge-patch+json",
            )
        except ApiError as answer:
            if answer.code == 404:
                return None
            raise self._error(answer, "patch", kind, name) from answer

    def delete(self, kind: str, name: str) -> None:
        """Delete an object and all that belongs to it; one that is gone may be."""
        body = json.dumps({"propagationPolicy": "Background"})
        try:
            self._ask("DELETE", self.path(resource_kind(kind), name), body=body)
        except ApiError as answer:
            if answer.code != 404:
                raise self._error(answer, "delete", kind, name) from answer

    def create(self, kind: str, body: Object) -> Object:
        """Ask something by an object that is not kept, such as a SelfSubjectAccessReview."""
        try:
            return self._ask("POST", self.path(resource_kind(kind)), body=json.dumps(body))
        except ApiError as answer:
            raise self._error(answer, "create", kind, "") from answer

    def serves(self, kind: str) -> bool:
        """Whether the cluster knows a kind, as it does where its CRD is installed."""
        wanted = resource_kind(kind)
        try:
            known = self._ask("GET", wanted.root)
        except ApiError as answer:
            if answer.code in (403, 404):
                return False
            raise self._error(answer, "get", kind, "") from answer
        return any(each["name"] == wanted.plural for each in known["resources"])

    def version(self) -> tuple[int, int]:
        """Major and minor version of the API server."""
        try:
            told = self._ask("GET", "/version")
        except ApiError as answer:
            raise self._error(answer, "get", "Namespace", "") from answer
        return int(told["major"]), int(re.sub(r"\D.*", "", told["minor"]))

    def user(self) -> str:
        """Who asks, as far as the kubeconfig says it."""
        return f"the user of context {self.context}" if self.context else "this pod's account"

    # Logs ----------------------------------------------------------------------------------------------------

    def log(self, pod: str, *, follow: bool, since: str | None = None) -> Iterator[tuple[str, str]]:
        """Lines of a pod's log, each with its time, as the node's clock had it.

        Args:
            pod: The pod.
            follow: Whether to go on until its container ends.
            since: Only lines from this time on, ISO 8601.

        Raises:
            Unreachable: The connection broke, or nothing came for long.
            Answered: There is no log: the container has not started, or the pod is gone.
        """
        query = {"timestamps": "true", "follow": str(follow).lower(), **({"sinceTime": since} if since else {})}
        path = self.path(resource_kind("Pod"), pod) + "/log"
        with self._opened("GET", path, query) as response:
            rest = b""
            for piece in response.stream(1 << 16, decode_content=True):
                *lines, rest = (rest + piece).split(b"\n")
                yield from map(_timed, lines)
            if rest:
                yield _timed(rest)

    # Requests ------------------------------------------------------------------------------------------------

    def path(self, kind: ResourceKind, name: str = "") -> str:
        """The path of an object, or of all of its kind."""
        place = (
            f"{kind.root}/namespaces/{self.namespace}/{kind.plural}"
            if kind.namespaced
            else (f"{kind.root}/{kind.plural}")
        )
        return f"{place}/{quote(name)}" if name else place

    def _ask(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: str | None = None,
        content: str = "application/json",
    ) -> Object:
        """One request, repeated while nobody answers.

        Raises:
            Answered: It is refused.
            EnvironmentLacking: Nobody answered for too long.
        """
        patience_s = self.patience_s if self._answered or self.context is None else _FIRST_ANSWER_S

        def send() -> Object:
            with self._opened(method, path, query, body, content) as response:
                answer: Object = json.loads(response.read())
                return answer

        def give_up(failure: Exception, failures: int, elapsed_s: float) -> Exception | None:
            if isinstance(failure, ApiError) and failure.code not in _BUSY:
                return failure
            if elapsed_s <= patience_s:
                return None
            return UnavailableError(
                f"{self.client.configuration.host}: the Kubernetes API does not answer ({failure}); check that the"
                " cluster runs, or choose another one by backend.kubernetes.context"
            )

        answer = retry(send, _BACKOFF, give_up, errors=(ApiUnreachableError, ApiError))
        self._answered = True
        return answer

    @contextmanager
    def _opened(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: str | None = None,
        content: str = "application/json",
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """The response to one request, while the block reads it."""
        where = path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json, */*", "Content-Type": content}
        try:
            method, url, headers, _, _ = self.client.param_serialize(
                method, where, header_params=headers, auth_settings=["BearerToken"]
            )
            response: urllib3.BaseHTTPResponse = self.client.rest_client.pool_manager.request(
                method,
                url,
                body=body,
                headers=headers,
                preload_content=False,
                retries=False,
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
            )
            try:
                if response.status >= 300:
                    raise _answered(response)
                yield response
            finally:
                response.close()
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError, ApiException) as error:
            raise ApiUnreachableError(_first_line(error)) from error

    def _error(self, answer: ApiError, verb: str, kind: str, name: str) -> UnavailableError | SpecError:
        """What a user is told about a refusal."""
        place = f"Kubernetes, namespace {self.namespace}"
        if answer.code == 401:
            return UnavailableError(
                f"{place}: the API server does not know this user; renew the credentials in the kubeconfig"
            )
        if answer.code == 403:
            return UnavailableError(
                f"{place}: the right to {verb} {resource_kind(kind).shown} is missing ({answer.message}); have it granted by"
                " a Role, for example the submitter's in k8s/base/rbac"
            )
        what = f"{kind} {name}".rstrip()
        return SpecError(f"{place}: {what}: {answer.message}; mend what it names in backend.kubernetes")


def connect(context: str | None, namespace: str | None) -> Cluster:
    """The cluster that the kubeconfig names, or the one that this pod is in.

    Args:
        context: The kubeconfig's context. Default: its current one.
        namespace: The namespace. Default: the context's, or the pod's own, or `farandole`.

    Raises:
        EnvironmentLacking: There is neither.
        SpecError: There is no such context.
    """
    settings = Configuration()
    file = os.environ.get("KUBECONFIG") or None  # the client looks only once, when it is imported
    try:
        known, current = kubeconfig.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        if context is not None:
            raise SpecError(
                f"backend.kubernetes.context: {context}: there is no kubeconfig ({_first_line(error)}); set KUBECONFIG"
            ) from error
        return _own_cluster(settings, namespace)
    names = [each["name"] for each in known]
    if context is not None and context not in names:
        raise SpecError(
            f"backend.kubernetes.context: {context}: the kubeconfig has no such context; it has {', '.join(names)}"
        )
    try:
        kubeconfig.load_kube_config(file, context=context, client_configuration=settings)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise UnavailableError(
            f"kubeconfig: {_first_line(error)}; mend it, or set KUBECONFIG to another one"
        ) from error
    chosen = next((each for each in known if each["name"] == context), current)
    return Cluster(_client(settings), namespace or chosen["context"].get("namespace") or MANAGER, str(chosen["name"]))


def _own_cluster(settings: Configuration, namespace: str | None) -> Cluster:
    try:
        kubeconfig.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise UnavailableError(
            "kubeconfig: there is none, and this is no pod of a cluster; set KUBECONFIG, or make ~/.kube/config"
        ) from error
    own = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"
    if namespace is None:
        with open(own, encoding="utf-8") as file:
            namespace = file.read().strip()
    return Cluster(_client(settings), namespace, None, _POD_PATIENCE_S)


def _client(settings: Configuration) -> ApiClient:
    return ApiClient(settings)


def _answered(response: urllib3.BaseHTTPResponse) -> ApiError:
    text = response.read().decode(errors="replace")
    try:
        said = json.loads(text)
        return ApiError(response.status, str(said.get("reason", "")), str(said.get("message", text)))
    except ValueError:
        return ApiError(response.status, "", text.strip() or str(response.reason))


def _timed(line: bytes) -> tuple[str, str]:
    time_text, _, text = line.decode(errors="replace").partition(" ")
    return time_text, text


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
