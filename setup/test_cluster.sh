#!/usr/bin/env bash
# A real cluster for the tests marked `cluster`, by scripts that build and start one on this machine.
#
#   setup/test_cluster.sh SCRIPTS up            builds it once, starts it, prints the kubeconfig's path
#   setup/test_cluster.sh SCRIPTS down          ends it
#   setup/test_cluster.sh SCRIPTS restart-api   stops the API server, and starts it again three seconds later
#
# SCRIPTS holds build.sh, up.sh, down.sh, ns.sh, mkimage.py and lab.sh, which says where the cluster lies.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
scripts=$(cd "$1" && pwd)
command=$2
set +u
. "$scripts/lab.sh"
set -u

up() {
    "$scripts/build.sh" >&2
    # Images that lie there are loaded at every start.
    "$here/test_image.sh" "$scripts/mkimage.py" "$LAB/img/machine.tar"
    "$scripts/up.sh" "${FARANDOLE_TEST_GPUS:-4}" >&2
    echo "$PKI/admin.conf"
}

restart_api() {
    local pid
    local -a arguments
    pid=$(awk '$2 == "apiserver" {print $1}' "$RUN/pids")
    mapfile -d '' -t arguments <"/proc/$pid/cmdline"
    kill "$pid"
    while [[ -d /proc/$pid ]]; do sleep 0.1; done
    sleep 3
    sed -i '/ apiserver$/d' "$RUN/pids"
    # shellcheck disable=SC2016 # expanded inside
    "$scripts/ns.sh" bash -c '. "$0/lab.sh"; start apiserver "$@"' "$scripts" "${arguments[@]}"
}

case $command in
    up) up ;;
    down) "$scripts/down.sh" wipe ;;
    restart-api) restart_api ;;
    *) echo "$command: use up, down or restart-api" >&2 && exit 2 ;;
esac
