#!/usr/bin/env bash
# Make .venv ready for Farandole: the system's tools, the locked packages, and Horovod. `make setup` runs this.
#
# A second run sees by a stamp that nothing changed, and ends at once. Exit code 3: the machine lacks something
# that could not be installed from here; the last line then says which command does it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=$PWD/.venv
stamp=.venv/.farandole-setup

say() { printf 'setup: %s\n' "$*" >&2; }

# Done already? ----------------------------------------------------------------------------------------------

# What the environment follows from; the path is part of it, for an environment cannot be moved.
wanted=$(cat requirements.lock pyproject.toml setup/*.sh setup/*.patch platform/farandole/*/*.c | sha256sum)" $venv gpu=${FARANDOLE_HOROVOD_GPU:-as found}"
is_done() { [[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]]; }
is_done && exit

mkdir -p build
exec {lock}>build/setup.lock
flock --nonblock "$lock" || { say "another set-up is running here; waiting for it" && flock "$lock"; }
is_done && exit

# The system's tools -----------------------------------------------------------------------------------------

# The lock is for Python 3.11, which may go by another name; and a pyenv shim may start nothing.
find_python() {
    local name
    for name in "${PYTHON:-python3.11}" python3.11 python3 python; do
        "$name" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && command -v "$name" && return
    done
    return 1
}

java=${JAVA_HOME:+$JAVA_HOME/bin/}java # as Spark chooses it
java_version() { "$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p'; }

# One line for each thing that is missing: Debian's package for it.
missing_packages() {
    local python
    if ! python=$(find_python); then
        printf '%s\n' python3.11 python3.11-venv python3.11-dev
    else
        "$python" -c 'import ensurepip' 2>/dev/null || echo python3.11-venv
        # Horovod is compiled against Python's headers.
        "$python" -c 'import pathlib, sysconfig; (pathlib.Path(sysconfig.get_path("include")) / "Python.h").stat()' \
            2>/dev/null || echo python3.11-dev
    fi
    command -v "${CXX:-g++}" >/dev/null || echo g++
    command -v make >/dev/null || echo make
    command -v patch >/dev/null || echo patch
    (($(java_version) + 0 >= 17)) || echo openjdk-17-jre-headless
}

install_packages() {
    local as_root=()
    command -v apt-get >/dev/null || return
    if ((EUID != 0)); then
        as_root=(sudo --non-interactive)
        "${as_root[@]}" true 2>/dev/null || return
    fi
    local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
    say "installing with apt-get: $*"
    # A new machine has no lists of packages yet.
    {
        "${apt[@]}" update && "${apt[@]}" install --yes --no-install-recommends "$@"
    } </dev/null >build/apt.log 2>&1 || tail -n 5 build/apt.log >&2
}

mapfile -t packages < <(missing_packages)
if ((${#packages[@]})); then
    install_packages "${packages[@]}" || true # what counts is what is there afterwards
    mapfile -t packages < <(missing_packages)
fi
if ((${#packages[@]})); then
    for package in "${packages[@]}"; do
        case $package in
            python3.11) say "no Python 3.11; name one from elsewhere: make setup PYTHON=/its/bin/python3.11" ;;
            openjdk*) say "no Java >= 17${JAVA_HOME:+ in JAVA_HOME=$JAVA_HOME}" ;;
        esac
    done
    say "this machine lacks something; install it and try again: sudo apt-get install ${packages[*]}"
    exit 3
fi
python=$(find_python)

# Python's packages ------------------------------------------------------------------------------------------

# Not so if it is of another Python, half made, or moved here (its scripts would start the other place's).
fits() {
    .venv/bin/python -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null &&
        grep -qsF "$venv/bin/python" .venv/bin/pip
}
fits || { say "making .venv with $("$python" --version)" && "$python" -m venv --clear .venv; }
rm -f "$stamp"

install() {
    .venv/bin/python -m pip install --disable-pip-version-check --constraint requirements.lock "$@" \
        </dev/null >build/pip.log 2>&1 && return
    tail -n 15 build/pip.log >&2
    say "pip failed; the whole log is build/pip.log"
    exit 1
}

say "installing torch, the largest part"
install torch setuptools wheel
say "installing the other packages of requirements.lock"
install --no-build-isolation --editable '.[dev]'
wheel=$(setup/horovod_wheel.sh .venv/bin/python)
# Forced, because its version does not show which torch a Horovod was compiled for.
install --no-deps --force-reinstall "$wheel"

# From it, Java maps Spark's classes in place of reading and checking them in each preparation; without it, Spark still
# starts, only more slowly.
say "making the archive of Spark's classes (half a minute)"
.venv/bin/python -m farandole.ingest.class_archive </dev/null >build/class_archive.log 2>&1 ||
    tail -n 1 build/class_archive.log >&2
# In the same way, a new MLflow store is created from its final schema, without MLflow's 60 migrations.
.venv/bin/python -m farandole.tracking.new_store </dev/null >build/new_store.log 2>&1 || tail -n 1 build/new_store.log >&2

printf '%s' "$wanted" >"$stamp"
say "done; .venv is ready"
