"""Words of other programs that no message to the user may contain."""

from __future__ import annotations

import re

_FOREIGN = re.compile(
    r"(?P<code>[A-Z_]{8,})|\bo\d+\.|instance of|<stream end>|<block|<scalar|input should be|input tag|value error"
    r"|extra inputs|field required|valid (?:dictionary|string|integer|number|list|boolean)\b"
    r"|union_tag|model_type|validation error|errno \d|\bNoneType\b|Traceback|java\.lang|py4j|org\.apache|pydantic",
    re.IGNORECASE,
)
_VARIABLES = re.compile(
    r"(?:FARANDOLE|MLFLOW|AWS|SPARK|PYTHON|HOROVOD|CUDA|OMP)_[A-Z_]+|KUBECONFIG|NAMESPACE|JAVA_HOME|PGPASSWORD|TMPDIR|SIG[A-Z]+"
)
"""Environment variables and signals, which users set and read about by these names."""


def foreign_words(text: str, *own: str) -> list[str]:
    """Return the words of a message that are not plain English.

    Args:
        text: The message.
        own: Names that the user wrote, which may look like codes.
    """
    found = []
    for match in _FOREIGN.finditer(text):
        word = match.group()
        if match["code"] is not None and not word.isupper():
            continue  # an ordinary word; the rest of the pattern ignores case
        around = _whole_word(text, match.start(), match.end())
        if not (_VARIABLES.fullmatch(around) or around in own):
            found.append(around)
    return found


def _whole_word(text: str, start: int, end: int) -> str:
    while start > 0 and re.match(r"\w", text[start - 1]):
        start -= 1
    while end < len(text) and re.match(r"\w", text[end]):
        end += 1
    return text[start:end]
