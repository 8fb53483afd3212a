#!/usr/bin/env bash
# Make the passwords and keys of a deployment at random, as Secrets of the cluster; those that are there stay as they are.
#
#   k8s/secrets.sh                 make what is missing in the current context's cluster; prints names only
#   k8s/secrets.sh --print         print all of them as YAML, for a secret store of one's own; asks no cluster
#   ... --without storage          none for SeaweedFS: pods sign in to S3 in another way
#   ... --without database         none for PostgreSQL: the password comes from elsewhere, as Secret postgresql-mlflow
#
# Nothing is written to disk, and no value passes through a command line. Secrets that come from elsewhere (Vault, External
# Secrets) need the same names and keys; make them first, and this script leaves them alone.
set -euo pipefail

services=farandole-system jobs=farandole

say() { printf 'secrets: %s\n' "$*" >&2; }

# What is made -----------------------------------------------------------------------------------------------

# 40 hexadecimal digits, of 160 random bits.
random() { head -c 20 /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# secret NAMESPACE NAME, and lines `KEY VALUE` on the standard input.
secret() {
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\n' "$2" "$1"
    printf '  labels: {app.kubernetes.io/part-of: farandole}\nstringData:\n'
    local key value
    while read -r key value; do printf "  %s: '%s'\n" "$key" "$value"; done
}

# One identity of SeaweedFS, with its rights: name, access key, secret key, actions.
identity() { printf '{"name":"%s","credentials":[{"accessKey":"%s","secretKey":"%s"}],"actions":[%s]}' "$@"; }
bucket() { printf '"Read:%s","Write:%s","List:%s","Tagging:%s"' "$1" "$1" "$1" "$1"; }

# Each group shares values, and so is made as a whole or not at all.
declare -A members=(
    [storage]="$services/seaweedfs $services/mlflow-storage $jobs/farandole-storage"
    [tracking]="$services/mlflow $jobs/farandole-credentials"
    [database]="$services/postgresql-mlflow $services/postgresql"
    [grafana]="$services/grafana"
    [jupyterlab]="$jobs/jupyterlab"
)

make_storage() {
    local admin mlflow ours admin_key mlflow_key our_key
    admin=$(random) mlflow=$(random) ours=$(random) admin_key=$(random) mlflow_key=$(random) our_key=$(random)
    secret "$services" seaweedfs <<EOF
admin-access-key $admin
admin-secret-key $admin_key
s3.json {"identities":[$(identity admin "$admin" "$admin_key" '"Admin"'),$(
        identity mlflow "$mlflow" "$mlflow_key" "$(bucket mlflow)"
    ),$(identity jobs "$ours" "$our_key" "$(bucket farandole)")]}
EOF
    printf 'AWS_ACCESS_KEY_ID %s\nAWS_SECRET_ACCESS_KEY %s\n' "$mlflow" "$mlflow_key" | secret "$services" mlflow-storage
    printf 'AWS_ACCESS_KEY_ID %s\nAWS_SECRET_ACCESS_KEY %s\n' "$ours" "$our_key" | secret "$jobs" farandole-storage
}

make_tracking() {
    local password
    password=$(random)
    printf 'admin-password %s\nflask-secret-key %s\njobs-password %s\n' "$(random)" "$(random)" "$password" |
        secret "$services" mlflow
    printf 'MLFLOW_TRACKING_USERNAME jobs\nMLFLOW_TRACKING_PASSWORD %s\n' "$password" |
        secret "$jobs" farandole-credentials
}

make_database() {
    secret "$services" postgresql <<<"password $(random)"
    secret "$services" postgresql-mlflow <<<"password $(random)"
}

make_grafana() { secret "$services" grafana <<<"admin-password $(random)"; }
make_jupyterlab() { secret "$jobs" jupyterlab <<<"token $(random)"; }

# What is wanted ---------------------------------------------------------------------------------------------

print=0
groups=" storage tracking database grafana jupyterlab "
while (($#)); do
    case $1 in
        --print) print=1 ;;
        --without)
            [[ ${2:-} == storage || ${2:-} == database ]] ||
                { say "--without ${2:-}: unknown; it takes storage or database" && exit 2; }
            groups=${groups/ $2 / }
            shift
            ;;
        *) say "$1: unknown; the options are --print and --without storage|database" && exit 2 ;;
    esac
    shift
done
if ((print)); then
    for group in $groups; do "make_$group"; done
    exit
fi

command -v kubectl >/dev/null || { say "no kubectl here; install it: https://kubernetes.io/docs/tasks/tools" && exit 3; }
exists() { [[ -n $(kubectl --namespace "${1%/*}" get secret "${1#*/}" --output name --ignore-not-found) ]]; }

for group in $groups; do
    there=() missing=()
    for name in ${members[$group]}; do
        if exists "$name"; then there+=("$name"); else missing+=("$name"); fi
    done
    if ((${#there[@]} == 0)); then
        "make_$group" | kubectl create --filename -
    elif ((${#missing[@]})); then
        say "${missing[*]}: missing, while ${there[*]} is there, and they belong together; bring back what is missing," \
            "or renew them all: see 'Secrets' in k8s/README.md"
        exit 2
    fi
done
say "all are there"
