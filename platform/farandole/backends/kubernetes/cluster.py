"""Client of the Kubernetes API: objects as plain data, by kind and name. The only module that imports the client.

Requests that are safe to repeat are repeated while the API server does not answer, as during its restart. A rejected
request becomes an error that names the request.
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

_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S = 5.0, 30.0
_PATIENCE_S = 60.0
"""How long a command waits for an API server that does not answer: a restart takes less."""
_POD_PATIENCE_S = 3600.0
"""How long a pod waits: its work continues meanwhile."""
_FIRST_ANSWER_S = 30.0
"""How long a command waits for the first answer, so that a wrong address is reported soon."""
_BACKOFF = Backoff(first_s=0.2, longest_s=5.0)
_BUSY = (429, 500, 502, 503, 504)
_RBAC_REMEDY = "have it granted by a Role, for example the submitter's in k8s/base/rbac"


class ApiUnreachableError(Exception):
    """The API server does not answer now."""


class ApiError(Exception):
    """The API server answered with an error.

    Args:
        code: The HTTP status.
        reason: Kubernetes' name of the error: `Forbidden`, `NotFound`, `Conflict`.
        message: Its text.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


@dataclass
class Cluster:
    """One namespace of one cluster.

    Args:
        client: The official client, with credentials.
        namespace: The namespace.
        context: The kubeconfig's context; None: a pod's own cluster.
        patience_s: How long requests are repeated to an API server that does not answer.
    """

    client: ApiClient
    namespace: str
    context: str | None
    patience_s: float = _PATIENCE_S
    _answered: bool = False

    # Objects -------------------------------------------------------------------------------------------------

    def get(self, kind: str, name: str) -> Object | None:
        """Return an object; None: it, or even its kind, does not exist."""
        try:
            return self._request("GET", self.path(resource_kind(kind), name))
        except ApiError as error:
            if error.code == 404:
                return None
            raise self._translate(error, "get", kind, name) from error

    def find(self, kind: str, selector: str = "", *, cached: bool = False) -> list[Object]:
        """Return the objects with some labels; none if the kind does not exist.

        Args:
            kind: Their kind.
            selector: A label selector.
            cached: Whether the server may answer from its cache.
        """
        query = {"labelSelector": selector, **({"resourceVersion": "0"} if cached else {})}
        try:
            found: list[Object] = self._request("GET", self.path(resource_kind(kind)), query)["items"]
        except ApiError as error:
            if error.code == 404:
                return []
            raise self._translate(error, "list", kind, "") from error
        return [{"kind": kind, **each} for each in found]

    def events(self, kind: str, name: str) -> list[Object]:
        """Return the events of an object."""
        query = {"fieldSelector": f"involvedObject.kind={kind},involvedObject.name={name}"}
        try:
            found: list[Object] = self._request("GET", self.path(resource_kind("Event")), query)["items"]
        except ApiError as error:
            raise self._translate(error, "list", "Event", "") from error
        return found

    def apply(self, wanted: Object, *, dry_run: bool = False) -> Object:
        """Apply an object on the server, with Farandole's field manager; other managers' changes are overwritten."""
        query = {"fieldManager": MANAGER, "force": "true", **({"dryRun": "All"} if dry_run else {})}
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        try:
            path = self.path(resource_kind(kind), name)
            return self._request("PATCH", path, query, wanted, "application/apply-patch+yaml")
        except ApiError as error:
            raise self._translate(error, "patch", kind, name) from error

    def patch(self, kind: str, name: str, change: Object, *, part: str = "") -> Object | None:
        """Change some fields of an object, or of a part of it such as `/scale`; return None if it does not exist."""
        path = self.path(resource_kind(kind), name) + part
        try:
            return self._request("PATCH", path, {"fieldManager": MANAGER}, change, "application/merge-patch+json")
        except ApiError as error:
            if error.code == 404:
                return None
            raise self._translate(error, "patch", kind, name) from error

    def delete(self, kind: str, name: str) -> None:
        """Delete an object, if it exists, and everything that belongs to it."""
        try:
            path = self.path(resource_kind(kind), name)
            self._request("DELETE", path, body={"propagationPolicy": "Background"})
        except ApiError as error:
            if error.code != 404:
                raise self._translate(error, "delete", kind, name) from error

    def create(self, kind: str, body: Object) -> Object:
        """Create an object that is answered and not stored, such as a SelfSubjectAccessReview."""
        try:
            return self._request("POST", self.path(resource_kind(kind)), body=body)
        except ApiError as error:
            raise self._translate(error, "create", kind, "") from error

    def create_missing(self, wanted: Object) -> bool:
        """Create an object unless one of its name exists; return whether it was created."""
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        try:
            self._request("POST", self.path(resource_kind(kind)), {"fieldManager": MANAGER}, wanted)
        except ApiError as error:
            if error.code == 409:
                return False
            raise self._translate(error, "create", kind, name) from error
        return True

    def serves(self, kind: str) -> bool:
        """Return whether the cluster serves a kind, as it does if its CRD is installed."""
        wanted = resource_kind(kind)
        try:
            known = self._request("GET", wanted.root)
        except ApiError as error:
            if error.code in (403, 404):
                return False
            raise self._translate(error, "get", kind, "") from error
        return any(each["name"] == wanted.plural for each in known["resources"])

    def version(self) -> tuple[int, int]:
        """Return the major and the minor version of the API server."""
        try:
            answer = self._request("GET", "/version")
        except ApiError as error:
            raise self._translate(error, "get", "Namespace", "") from error
        return int(answer["major"]), int(re.sub(r"\D.*", "", answer["minor"]))

    def user(self) -> str:
        """Return a description of the user, from the kubeconfig."""
        return f"the user of context {self.context}" if self.context else "this pod's account"

    # Logs ----------------------------------------------------------------------------------------------------

    def log(self, pod: str, *, follow: bool, since: str | None = None) -> Iterator[tuple[str, str]]:
        """Yield the lines of a pod's log, each with its time by the node's clock.

        Args:
            pod: The pod.
            follow: Whether to continue until its container ends.
            since: Only lines from this time on, ISO 8601.

        Raises:
            ApiUnreachableError: The connection broke, or no line came for a long time.
            ApiError: There is no log: the container has not started, or the pod is gone.
        """
        query = {"timestamps": "true", "follow": str(follow).lower(), **({"sinceTime": since} if since else {})}
        path = self.path(resource_kind("Pod"), pod) + "/log"
        with self._open("GET", path, query) as response:
            rest = b""
            for piece in response.stream(1 << 16, decode_content=True):
                *lines, rest = (rest + piece).split(b"\n")
                yield from map(_split_time, lines)
            if rest:
                yield _split_time(rest)

    # Requests ------------------------------------------------------------------------------------------------

    def path(self, kind: ResourceKind, name: str = "") -> str:
        """Return the path of an object, or of all objects of its kind."""
        scope = f"/namespaces/{self.namespace}" if kind.namespaced else ""
        path = f"{kind.root}{scope}/{kind.plural}"
        return f"{path}/{quote(name)}" if name else path

    def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
    ) -> Object:
        """Send a request, repeat it while the API server does not answer, and return the answer.

        Raises:
            ApiError: The request was rejected.
            UnavailableError: The API server did not answer for too long.
        """
        patience_s = self.patience_s if self._answered or self.context is None else _FIRST_ANSWER_S

        def send() -> Object:
            with self._open(method, path, query, body, content) as response:
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
    def _open(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content: str = "application/json",
    ) -> Iterator[urllib3.HTTPResponse]:
        """Send one request, and hold its response open for the length of the block."""
        resource = path + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json, */*", "Content-Type": content}
        try:
            method, url, headers, _, _ = self.client.param_serialize(
                method, resource, header_params=headers, auth_settings=["BearerToken"]
            )
            timeout = (_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S)
            answer = self.client.call_api(method, url, header_params=headers, body=body, _request_timeout=timeout)
            response: urllib3.HTTPResponse = answer.response
            try:
                if response.status >= 300:
                    raise _api_error(response)
                yield response
            finally:
                response.close()
                response.release_conn()
        except (urllib3.exceptions.HTTPError, OSError, ApiException) as error:
            raise ApiUnreachableError(_first_line(error)) from error

    def _translate(self, error: ApiError, verb: str, kind: str, name: str) -> UnavailableError | SpecError:
        """Return the error that the user gets for a rejected request."""
        scope = f"Kubernetes, namespace {self.namespace}"
        if error.code == 401:
            return UnavailableError(f"{scope}: the API server rejected the credentials; renew them in the kubeconfig")
        if error.code == 403:
            right = f"{verb} {resource_kind(kind).shown}"
            return UnavailableError(f"{scope}: the right to {right} is missing ({error.message}); {_RBAC_REMEDY}")
        subject = f"{kind} {name}".rstrip()
        return SpecError(f"{scope}: {subject}: {error.message}; fix the named field in backend.kubernetes")


def connect(context: str | None, namespace: str | None) -> Cluster:
    """Connect to the cluster that the kubeconfig names, or to the cluster of this pod.

    Args:
        context: The kubeconfig's context. Default: its current one.
        namespace: The namespace. Default: the context's, or the pod's own, or `farandole`.

    Raises:
        UnavailableError: There is neither a kubeconfig nor a pod's account.
        SpecError: The kubeconfig has no such context.
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
        return _connect_from_pod(settings, namespace)
    names = [each["name"] for each in known]
    if context is not None and context not in names:
        raise SpecError(
            f"backend.kubernetes.context: {context}: the kubeconfig has no such context; it has {', '.join(names)}"
        )
    try:
        kubeconfig.load_kube_config(file, context=context, client_configuration=settings)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        raise UnavailableError(f"kubeconfig: {_first_line(error)}; fix it, or set KUBECONFIG to another one") from error
    chosen = next((each for each in known if each["name"] == context), current)
    return Cluster(_client(settings), namespace or chosen["context"].get("namespace") or MANAGER, str(chosen["name"]))


def _connect_from_pod(settings: Configuration, namespace: str | None) -> Cluster:
    try:
        kubeconfig.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
    except ConfigException as error:
        raise UnavailableError(
            "kubeconfig: there is none, and this process is not in a pod; set KUBECONFIG, or create ~/.kube/config"
        ) from error
    if namespace is None:
        with open("/var/run/secrets/kubernetes.io/serviceaccount/namespace", encoding="utf-8") as file:
            namespace = file.read().strip()
    return Cluster(_client(settings), namespace, None, _POD_PATIENCE_S)


def _client(settings: Configuration) -> ApiClient:
    settings.retries = False  # requests are repeated here, where it is known which of them are safe to repeat
    return ApiClient(settings)


def _api_error(response: urllib3.HTTPResponse) -> ApiError:
    text = response.read().decode(errors="replace")
    try:
        status = json.loads(text)
        return ApiError(response.status, str(status.get("reason", "")), str(status.get("message", text)))
    except ValueError:
        return ApiError(response.status, "", text.strip() or str(response.reason))


def _split_time(line: bytes) -> tuple[str, str]:
    time_text, _, text = line.decode(errors="replace").partition(" ")
    return time_text, text


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
