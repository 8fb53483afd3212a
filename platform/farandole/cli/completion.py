"""Completion of the shell: job files, fields of the job file, datasets and ids.

Typer installs it for bash, zsh and fish: `farandole --install-completion`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from typer import _completion_shared

_SUFFIXES = (".yaml", ".yml")
_MAX_DEPTH = 4
_BASH_SCRIPT = r"""
%(complete_func)s() {
    # COMP_WORDS holds `--set`, `backend.use`, `=`, `lo`; the command gets `--set`, `backend.use=lo`.
    local rest=${COMP_LINE:0:COMP_POINT} words=() part blank index
    for ((index = 0; index <= COMP_CWORD; index++)); do
        blank=${rest%%%%[![:space:]]*}
        rest=${rest#"$blank"}
        part=${COMP_WORDS[index]}
        # The cursor may be inside of the last word; what is behind it does not matter.
        ((index == COMP_CWORD)) && part=$rest
        rest=${rest#"$part"}
        if [[ -n $blank || $index -eq 0 ]]; then
            words+=("$part")
        else
            words[${#words[@]}-1]+=$part
        fi
    done

    # Only this part of the last word is replaced by a completion.
    local last=${words[${#words[@]}-1]} replaced=$part is_quoted= value
    local special=$'[][[:space:]"\'\\\\$`&|;<>()*?{}!#]'
    [[ $replaced == [\"\']* ]] && is_quoted=1
    [[ $replaced == [=:] ]] && replaced=
    local kept=${last%%"$replaced"}
    [[ $kept == --*=* ]] && kept=${kept#*=} # the command completes the value of the option
    COMPREPLY=()
    while IFS= read -r value; do
        [[ -n $value ]] || continue
        value=${value#"$kept"}
        [[ -z $is_quoted && $value =~ $special ]] && printf -v value '%%q' "$value"
        COMPREPLY+=("$value")
    done < <(
        env COMP_WORDS="$(printf '%%s\n' "${words[@]}")" COMP_CWORD=$((${#words[@]} - 1)) \
            %(autocomplete_var)s=complete_bash "$1" 2>/dev/null
    )
    # A folder and the name of a field are not whole words yet.
    if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *[=/] ]]; then
        compopt -o nospace
    fi
}

complete -o default -F %(complete_func)s %(prog_name)s
"""
"""The completion in bash, which divides words at `=` and `:` and puts a space behind each completed word.

Typer's script ignores both: it completes no `--set backend.use=lo`, and puts a space behind `houses/`.
"""


def use_bash_script() -> None:
    """Let `--show-completion` and `--install-completion` use the script of this module for bash."""
    _completion_shared._completion_scripts["bash"] = _BASH_SCRIPT


def job_files(incomplete: str) -> list[str]:
    """Return the folders and YAML files that a path may be completed to."""
    return list(_paths(incomplete, lambda path: path.suffix in _SUFFIXES))


def datasets(incomplete: str) -> list[str]:
    """Return the datasets of `$FARANDOLE_HOME`, and the folders that a path may be completed to."""
    from farandole.storage import home

    known = [str(path.parent) for path in sorted((home() / "datasets").glob("*/manifest.json"))]
    found = [path for path in known if path.startswith(incomplete) or Path(path).name.startswith(incomplete)]
    return [*found, *(path for path in _paths(incomplete, lambda path: False) if path not in found)]


def _paths(incomplete: str, is_wanted: Any) -> Iterator[str]:
    """Yield the folders, with a slash at the end, and the wanted files that begin with a text."""
    head, slash, tail = incomplete.rpartition("/")
    folder = Path(f"{head}{slash}" or ".").expanduser()
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            if not path.name.startswith(tail) or (path.name.startswith(".") and not tail):
                continue
            if path.is_dir():
                yield f"{head}{slash}{path.name}/"
            elif is_wanted(path):
                yield f"{head}{slash}{path.name}"


def foreground_job_ids(incomplete: str) -> list[str]:
    """Return the jobs in the foreground of this machine, the newest first."""
    from farandole.jobdir.locks import foreground_directories

    found = sorted((path.name for path in foreground_directories()), reverse=True)
    return [job_id for job_id in found if job_id.startswith(incomplete)]


def job_ids(incomplete: str) -> list[str]:
    """Return the jobs of this machine, the newest first: submitted ones, and those of the foreground."""
    from farandole.backends.records import JobDatabase
    from farandole.storage import home

    records = JobDatabase(home())
    submitted = [job_id for job_id in records.ids() if job_id.startswith(incomplete)] if records.path.exists() else []
    return list(dict.fromkeys([*submitted, *foreground_job_ids(incomplete)]))


def ids_to_send(incomplete: str) -> list[str]:
    """Return the sweeps and jobs, the newest first, that have records which MLflow has not got yet."""
    from farandole.jobdir.layout import jobs_folder, sweeps_folder
    from farandole.tracking.run_link import pending_spools

    found = [path for folder in (sweeps_folder(), jobs_folder()) for path in folder.glob(f"{incomplete}*")]
    return [path.name for path in sorted(found, reverse=True) if pending_spools(path)]


def backends(incomplete: str) -> list[str]:
    """Return the backends that a text may be completed to."""
    from farandole.spec import BackendName

    return [name for name in get_args(BackendName) if name.startswith(incomplete)]


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Return a completion to fixed words."""

    def complete(incomplete: str) -> list[str]:
        return [word for word in words if word.startswith(incomplete)]

    return complete


def kinds_of_labels(incomplete: str) -> list[str]:
    """Return the kinds of labels that a text may be completed to."""
    from farandole.spec import METRICS

    return [kind for kind in METRICS if kind.startswith(incomplete)]


def overrides(incomplete: str) -> list[str]:
    """Return the fields that a text may be completed to, with `=`; behind it, the values that a field may have."""
    from farandole.spec import Job

    schema = Job.model_json_schema()
    field, equals, value = incomplete.partition("=")
    if not equals:
        return [f"{name}=" for name, _ in _fields(schema, schema, "", 0) if name.startswith(field)]
    for name, part in _fields(schema, schema, "", 0):
        if name == field:
            return [f"{field}={each}" for each in _values(schema, part) if each.startswith(value)]
    return []


def _fields(
    schema: dict[str, Any], part: dict[str, Any], prefix: str, depth: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the path and the schema of every field with a value of its own; of nested fields, the innermost."""
    seen: set[str] = set()
    for variant in _variants(schema, part):
        for name, inner in variant.get("properties", {}).items():
            if name in seen or inner.get("x-internal"):
                continue
            seen.add(name)
            nested = list(_fields(schema, inner, f"{prefix}{name}.", depth + 1)) if depth < _MAX_DEPTH else []
            yield from nested or [(f"{prefix}{name}", inner)]


def _variants(schema: dict[str, Any], part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas that a part refers to or chooses from."""
    if "$ref" in part:
        yield from _variants(schema, schema["$defs"][part["$ref"].rpartition("/")[2]])
        return
    choices = [choice for key in ("anyOf", "oneOf", "allOf") for choice in part.get(key, ())]
    if not choices:
        yield part
    for choice in choices:
        yield from _variants(schema, choice)


def _values(schema: dict[str, Any], part: dict[str, Any]) -> Iterator[str]:
    for variant in _variants(schema, part):
        yield from map(str, variant.get("enum", [variant["const"]] if "const" in variant else []))
        if variant.get("type") == "boolean":
            yield from ("true", "false")
