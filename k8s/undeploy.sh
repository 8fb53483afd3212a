#!/usr/bin/env bash
# Remove an overlay from the cluster of the current context. `make undeploy OVERLAY=NAME` runs this.
#
#   k8s/undeploy.sh OVERLAY            keep volumes, Secrets and namespaces: the next deployment continues with all data
#   k8s/undeploy.sh OVERLAY --purge    delete these as well: every run, model, dataset and password
#
# Exit code 2: jobs are running, which would lose the rights to release their workers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'undeploy: %s\n' "$*" >&2; }

overlay=k8s/overlays/${1:-}
[[ -n ${1:-} && -d $overlay ]] || overlay=${1:-}
[[ -f $overlay/kustomization.yaml && ${2:---purge} == --purge ]] || {
    say "usage: k8s/undeploy.sh OVERLAY [--purge]; the overlays are: $(cd k8s/overlays && echo *)"
    exit 2
}
command -v kubectl >/dev/null || { say "kubectl not found; install it: https://kubernetes.io/docs/tasks/tools" && exit 3; }

running=$(kubectl --namespace farandole get pods --selector farandole.dev/job --ignore-not-found \
    --field-selector status.phase!=Succeeded,status.phase!=Failed \
    --output jsonpath='{range .items[*]}{.metadata.labels.farandole\.dev/job}{"\n"}{end}' | sort --unique)
if [[ $running ]]; then
    say "jobs are running: ${running//$'\n'/, }; wait until they end, or cancel them: farandole cancel ID"
    exit 2
fi

# All objects of the overlay except those that hold data.
kubectl kustomize "$overlay" |
    awk 'BEGIN { RS = "\n---\n" } !/(^|\n)kind: (Namespace|PersistentVolume|PersistentVolumeClaim)(\n|$)/ { printf "---\n%s\n", $0 }' |
    kubectl delete --ignore-not-found --filename -
if [[ ${2:-} == --purge ]]; then
    kubectl delete namespace farandole farandole-system --ignore-not-found
    say "everything is deleted"
else
    say "volumes and Secrets are kept: kubectl get pvc,secret --all-namespaces -l app.kubernetes.io/part-of=farandole"
fi
