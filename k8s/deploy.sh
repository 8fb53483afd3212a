#!/usr/bin/env bash
# Deploy an overlay to the cluster of the current context, or update it. `make deploy OVERLAY=NAME` runs this.
#
#   k8s/deploy.sh OVERLAY          a folder of k8s/overlays, or any folder with a kustomization.yaml
#
# Exit code 2: the overlay does not exist, or needs a Secret that you have to create; 3: this machine or the cluster lacks
# something.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf 'deploy: %s\n' "$*" >&2; }
fail() { say "${@:2}" && exit "$1"; }

[[ -n ${1:-} ]] || fail 2 "no overlay given; run make deploy OVERLAY=minimal, or use one of: $(cd k8s/overlays && echo *)"
overlay=k8s/overlays/$1
[[ -d $overlay ]] || overlay=$1
[[ -f $overlay/kustomization.yaml ]] || fail 2 "$1: no such overlay; the overlays are: $(cd k8s/overlays && echo *)"

command -v kubectl >/dev/null || fail 3 "kubectl not found; install it: https://kubernetes.io/docs/tasks/tools"
rendered=$(kubectl kustomize "$overlay")
has() { grep -qE "$1" <<<"$rendered"; }
kubectl version >/dev/null 2>&1 || fail 3 "the cluster of context $(kubectl config current-context) does not answer; check kubectl config and the network"
# An unknown kind would make the deployment fail halfway.
if has '^apiVersion: kueue' && ! kubectl get crd clusterqueues.kueue.x-k8s.io >/dev/null 2>&1; then
    fail 3 "$1 uses Kueue, which is not installed in this cluster; install it (k8s/README.md), or remove ../../base/kueue"
fi

kubectl apply --kustomize k8s/base/namespace
without=()
has 'secretName: seaweedfs$' || without+=(--without storage)
has 'serviceName: postgresql$' || without+=(--without database)
k8s/secrets.sh "${without[@]}"
if [[ " ${without[*]} " == *" database "* ]]; then
    kubectl --namespace farandole-system get secret postgresql-mlflow >/dev/null 2>&1 ||
        fail 2 "the Secret postgresql-mlflow with the password of the managed PostgreSQL is missing; create it: kubectl -n farandole-system" \
            "create secret generic postgresql-mlflow --from-file=password=FILE"
fi

# Jobs are immutable: delete those of the last deployment before creating new ones.
kubectl --namespace farandole-system delete job seaweedfs-buckets mlflow-first-user --ignore-not-found
serving() { kubectl --namespace farandole get deployment serving --output name --ignore-not-found; }
before=$(serving)
kubectl apply --server-side --force-conflicts --field-manager farandole-deploy --filename - <<<"$rendered"
# The number of pods belongs to the HorizontalPodAutoscaler, and it rests at zero: at first there is no model to serve.
[[ $before || -z $(serving) ]] || kubectl --namespace farandole scale deployment serving --replicas 0
for kind in statefulset deployment; do
    for namespace in farandole-system farandole; do
        for name in $(kubectl --namespace "$namespace" get "$kind" --selector app.kubernetes.io/part-of=farandole --output name); do
            kubectl --namespace "$namespace" rollout status "$name" --timeout 15m ||
                fail 3 "$name is not ready; see why: kubectl -n $namespace describe pods"
        done
    done
done
for job in mlflow-first-user $(has 'secretName: seaweedfs$' && echo seaweedfs-buckets); do
    kubectl --namespace farandole-system wait --for condition=complete "job/$job" --timeout 15m ||
        fail 3 "job/$job did not complete; see its log: kubectl -n farandole-system logs job/$job"
done
say "MLflow: kubectl -n farandole-system port-forward svc/mlflow 5000, then http://localhost:5000"
