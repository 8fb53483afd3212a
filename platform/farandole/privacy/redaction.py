"""Redaction of personal data inside free text: each finding is replaced by a token, the rest stays as it is.

In contrast to detection, which counts whole values, redaction prefers a false alarm to a miss: a number of the right
form is replaced even if its check digits are wrong, because a typing error does not make a card number public.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from farandole.errors import DataError
from farandole.privacy.detect import CARD, EMAIL, IBAN, IP_ADDRESS, NATIONAL_ID, PHONE, PiiKind
from farandole.privacy.scanning import Span, replace_spans
from farandole.spec import Redact

_NAME_LABELS = frozenset({"PERSON", "PER"})
"""Labels of people in spaCy's pipelines: OntoNotes' and WikiNER's."""
_NAME = "[name]"


@dataclass(frozen=True)
class _Form:
    """The form of a kind of personal data inside a text.

    Args:
        kind: The kind, with the check of a candidate.
        token: The replacement.
        pattern: Regular expression in the common subset of RE2 (Arrow) and `re`, for any place in a text.
        is_check_required: Whether what fails the check stays: version numbers look like IP addresses.
    """

    kind: PiiKind
    token: str
    pattern: str
    is_check_required: bool = False

    def spans(self, text: str) -> Iterator[Span]:
        """Yield the parts of a text that are of the kind."""
        for found in self.kind.candidates(text, self.pattern):
            if found.is_valid or not self.is_check_required:
                yield found.start, found.end, self.token


_FORMS = {
    "email": _Form(EMAIL, "[e-mail]", f"({EMAIL.pattern})"),
    "iban": _Form(IBAN, "[IBAN]", IBAN.pattern),
    "card": _Form(CARD, "[card]", CARD.pattern),
    "national_id": _Form(
        NATIONAL_ID,
        "[national ID]",
        r"\b([0-9]{3}-[0-9]{2}-[0-9]{4}|[XYZ0-9][0-9]{7}-?[A-Z]|[A-Z]{6}[0-9]{2}[A-EHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z])\b",
    ),
    "ip": _Form(
        IP_ADDRESS,
        "[IP address]",
        r"\b([0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7})\b",
        is_check_required=True,
    ),
    "phone": _Form(
        PHONE,
        "[phone]",
        r"((?:\+|\b00)[1-9][0-9 ()./-]{6,18}[0-9]\b"  # international
        r"|(?:\b1[ .-])?(?:\(|\b)[2-9][0-9]{2}\)?[ .-][ ]?[2-9][0-9]{2}[ .-][0-9]{4}\b"  # North America
        r"|(?:\(|\b)0[1-9][0-9]{1,4}\)?[ /-]{1,3}[1-9][0-9 -]{3,10}[0-9]\b)",  # national, with its leading zero
    ),
}
"""By the names of `kinds`, in the order of precedence: a card number can look like a phone number."""


class Redactor:
    """The `redact` policy of a column.

    Args:
        policy: The policy.
        column: The column, for errors.
    """

    def __init__(self, policy: Redact, column: str) -> None:
        self._forms = [form for name, form in _FORMS.items() if name in policy.kinds]
        self._regions = policy.phone_regions if "phone" in policy.kinds else ()
        self._recognise = _name_recogniser(policy.names, column) if policy.names is not None else None

    def redact(self, texts: pa.StringArray) -> pa.StringArray:
        """Return the texts with a token in place of each finding; nulls stay null.

        Raises:
            DataError: The pipeline that recognises names is not installed.
        """
        encoded = texts.dictionary_encode()
        return pa.array(self._redacted(encoded.dictionary), pa.string()).take(encoded.indices)

    def _redacted(self, distinct: pa.StringArray) -> list[str]:
        """Redact different texts. Only those in which Arrow finds a form are searched in Python."""
        values: list[str] = distinct.to_pylist()
        spans: dict[int, list[Span]] = {}
        for form in self._forms:
            matched = pc.indices_nonzero(pc.match_substring_regex(distinct, form.pattern))
            for index in matched.to_pylist():
                spans.setdefault(index, []).extend(form.spans(values[index]))
        if self._regions:
            for index in pc.indices_nonzero(pc.match_substring_regex(distinct, r"[0-9].*[0-9]")).to_pylist():
                spans.setdefault(index, []).extend(_regional_phones(values[index], self._regions))
        if self._recognise is not None:
            for index, found in enumerate(self._recognise(values)):
                spans.setdefault(index, []).extend(found)
        for index, found in spans.items():
            values[index] = replace_spans(values[index], found)
        return values


def _regional_phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Yield the phone numbers that are valid in a region's numbering plan when written without the country's code."""
    from phonenumbers import Leniency, PhoneNumberMatcher

    for region in regions:
        for match in PhoneNumberMatcher(text, region, leniency=Leniency.VALID):
            yield match.start, match.end, "[phone]"


def recogniser_version(pipeline: str) -> str:
    """Return the version of a spaCy pipeline, for the cache key of a dataset: its content if it is a folder.

    A pipeline that is not installed has the version `missing`; `Redactor` reports it.
    """
    folder = Path(pipeline)
    try:
        if folder.is_dir():
            digest = hashlib.sha256()
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                digest.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
            return f"spacy {version('spacy')}, {digest.hexdigest()}"
        return f"spacy {version('spacy')}, {version(pipeline)}"
    except PackageNotFoundError:
        return "missing"


@cache
def _name_recogniser(pipeline: str, column: str) -> Callable[[list[str]], Iterator[list[Span]]]:
    """Load the spaCy pipeline that recognises names, once for each process.

    Raises:
        DataError: spaCy or the pipeline is not installed, or it recognises no people.
    """
    field = f"data.privacy.columns.{column}.names"
    try:
        import spacy
    except ImportError as error:
        raise DataError(f"{field}: needs spaCy; install it with pip install 'farandole[names]'") from error
    try:
        language: Any = spacy.load(pipeline, exclude=["parser", "lemmatizer", "attribute_ruler", "morphologizer"])
    except (OSError, ValueError) as error:
        raise DataError(
            f"{field}: spaCy cannot load the pipeline {pipeline}; install its package on every machine that prepares"
            " data, or give the folder that holds it"
        ) from error
    if not any(name in language.pipe_names for name in ("ner", "entity_ruler")):
        raise DataError(
            f"{field}: the pipeline {pipeline} has {', '.join(language.pipe_names) or 'no components'} and recognises"
            " no names; use one with an entity recogniser (ner)"
        )

    def recognise(texts: list[str]) -> Iterator[list[Span]]:
        for document in language.pipe(texts):
            yield [(found.start_char, found.end_char, _NAME) for found in document.ents if found.label_ in _NAME_LABELS]

    return recognise
