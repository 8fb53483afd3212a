"""A bundle that was opened: every digest was checked."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farandole.bundle.documents import LINEAGE
from farandole.bundle.manifest import check_files, digest_of, read_manifest
from farandole.bundle.predictor import Compute, Predictor
from farandole.bundle.signing import check_signature
from farandole.bundle.write import CODE, MODEL, OWN_BUILDERS, PREPROCESSING, ROWS
from farandole.errors import BundleError
from farandole.preprocess import Preprocessing, RawForm
from farandole.shards import LabelColumn, Schema
from farandole.spec import Policy, Privacy

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Bundle:
    """A model as files, all of which match the manifest.

    Args:
        path: The directory.
        digest: `sha256:` and the SHA-256 of the manifest.
        name: Name of the model.
    """

    path: Path
    digest: str
    name: str

    def read_json(self, file: str) -> Any:
        """Return a JSON document of the bundle.

        Raises:
            BundleError: There is no such file, or it is not JSON.
        """
        try:
            return json.loads((self.path / file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BundleError(f"{self.path}: has no readable {file} ({error}); export the model again") from error

    def has(self, file: str) -> bool:
        """Return whether the bundle has a file."""
        return (self.path / file).is_file()

    @cached_property
    def model(self) -> dict[str, Any]:
        """The description of the model, `model.json`."""
        document: dict[str, Any] = self.read_json(MODEL)
        return document

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The fitted preprocessing."""
        fitted = Preprocessing.from_dict(self.read_json(PREPROCESSING))
        return replace(fitted, policies={name: each for name, each in self.policies.items() if name in fitted.columns})

    @cached_property
    def policies(self) -> dict[str, Policy]:
        """Column to the privacy policy of the job; empty if the bundle does not say where it comes from."""
        lineage = self.read_json(LINEAGE) if self.has(LINEAGE) else {}
        try:
            return Privacy.model_validate((lineage.get("job") or {}).get("data", {}).get("privacy") or {}).protected
        except (AttributeError, ValueError) as error:
            raise BundleError(
                f"{self.path}: {LINEAGE} holds privacy policies that cannot be read ({error}); export the model again"
            ) from error

    @cached_property
    def row_forms(self) -> dict[str, RawForm]:
        """Raw column to how the sources write it."""
        return {column: RawForm.from_dict(form) for column, form in self.read_json(ROWS).items()}

    @property
    def schema(self) -> Schema:
        """The columns that the network reads."""
        return self.preprocessing.schema

    @property
    def label(self) -> LabelColumn:
        """The label, with its classes."""
        return self.schema.target

    @property
    def forms(self) -> tuple[str, ...]:
        """The forms of the network that the bundle has: `eager`, `program`, `onnx`, `int8`."""
        return tuple(self.model["forms"])

    @property
    def default_form(self) -> str:
        """The form that is used where none is named: `eager` for Farandole's builders, else `program`."""
        forms = self.forms
        is_own = self.model["builder"].startswith(OWN_BUILDERS)
        return "eager" if "eager" in forms and (is_own or "program" not in forms) else "program"

    @property
    def needs_code(self) -> bool:
        """True if the network runs only with code that the bundle carries, so that its owner must be trusted."""
        return bool(self.model["code"]) and "program" not in self.forms

    def predictor(self, form: str | None = None, *, run_code: bool = False) -> Predictor:
        """Load the network.

        Args:
            form: One of `forms`. Default: `default_form`.
            run_code: Whether code that the bundle carries may run.

        Raises:
            BundleError: The bundle lacks the form, or code would have to run.
        """
        form = form or self.default_form
        if form not in self.forms:
            raise BundleError(f"{self.path}: has no form {form!r} of the network; it has {', '.join(self.forms)}")
        compute, row_multiple = _load(self, form, run_code)
        return Predictor(self.preprocessing, self.row_forms, compute, row_multiple)

    def network(self, *, run_code: bool = False) -> nn.Module:
        """Build the network of the form `eager`, with its weights.

        Args:
            run_code: Whether code that the bundle carries may run.

        Raises:
            BundleError: The network cannot be built, or code would have to run.
        """
        from farandole.bundle.network import add_code, load_network

        builder = self.model["builder"]
        if not builder.startswith(OWN_BUILDERS):
            if not run_code:
                raise BundleError(
                    f"{self.path}: the network needs the code of {builder}, which the bundle carries; allow it to run"
                    " only if you trust who made the bundle"
                )
            add_code(self.path / CODE)
        return load_network(self.path, builder, self.model["options"], self.schema)


def open_bundle(path: str | Path, public_key: str | Path | None = None) -> Bundle:
    """Open a bundle, after comparing every file with the manifest.

    Args:
        path: The directory.
        public_key: PEM file with the Ed25519 key that must have signed the bundle; None: it need not be signed.

    Raises:
        BundleError: The directory is not a bundle, a file was changed, or the signature is wrong.
    """
    folder = Path(path)
    content, document = read_manifest(folder)
    if public_key is not None:
        check_signature(folder, content, Path(public_key))
    check_files(folder, document)
    return Bundle(folder, digest_of(content), document["name"])


def _load(bundle: Bundle, form: str, run_code: bool) -> tuple[Compute, int]:
    """Return the network in a form, and of how many rows it is given a multiple."""
    from farandole.bundle.blocks import LINEAR_ROWS, MIN_ROWS

    file = bundle.path / Path(bundle.model["forms"][form]["file"]).name
    if form == "program":
        from farandole.bundle.program import load_program

        return load_program(file), LINEAR_ROWS
    if form != "eager":
        from farandole.bundle.onnx_form import load_onnx

        return load_onnx(file), 1
    from farandole.bundle.network import eager

    is_own = bundle.model["builder"].startswith(OWN_BUILDERS)
    return eager(bundle.network(run_code=run_code)), MIN_ROWS if is_own else LINEAR_ROWS
