#!/usr/bin/env bash
# Create the random passwords and keys of a deployment as Secrets in the cluster. Existing ones are kept.
#
#   k8s/secrets.sh                 create missing Secrets in the cluster of the current context; prints names only
#   k8s/secrets.sh --print         print all of them as YAML, for your own secret store; needs no cluster
#   ... --without storage          none for SeaweedFS, if pods authenticate to S3 in another way
#   ... --without database         none for PostgreSQL, if you create the Secret postgresql-mlflow
#
# Nothing is written to disk, and no value appears on a command line. Secrets from other sources (Vault, External Secrets)
# need the same names and keys; create them first, and this script keeps them.
set -euo pipefail

services=farandole-system jobs=farandole

say() { printf 'secrets: %s\n' "$*" >&2; }

# Secrets -----------------------------------------------------------------------------------------------------

# random [BYTES]: print random bytes in hexadecimal, by default 20 (160 bits).
random() { head -c "${1:-20}" /dev/urandom | od -An -v -tx1 | tr -d ' \n'; }

# secret NAMESPACE NAME: print a Secret with the lines `KEY VALUE` of standard input.
secret() {
    printf -- '---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: %s\n  namespace: %s\n' "$2" "$1"
    printf '  labels: {app.kubernetes.io/part-of: farandole}\nstringData:\n'
    local key value
    while read -r key value; do printf "  %s: '%s'\n" "$key" "$value"; done
}

# identity NAME ACCESS_KEY SECRET_KEY ACTIONS: print an identity of SeaweedFS.
identity() { printf '{"name":"%s","credentials":[{"accessKey":"%s","secretKey":"%s"}],"actions":[%s]}' "$@"; }
bucket() { printf '"Read:%s","Write:%s","List:%s","Tagging:%s"' "$1" "$1" "$1" "$1"; }

# The Secrets of a group share values, so a group is created completely or not at all.
declare -A members=(
    [storage]="$services/seaweedfs $services/mlflow-storage $jobs/farandole-storage"
    [tracking]="$services/mlflow $jobs/farandole-credentials"
    [database]="$services/postgresql-mlflow $services/postgresql"
    [grafana]="$services/grafana"
    [jupyterlab]="$jobs/jupyterlab"
    [serving]="$jobs/serving-access"
)

make_storage() {
    local admin mlflow jobs_id admin_key mlflow_key jobs_key
    admin=$(random) mlflow=$(random) jobs_id=$(random) admin_key=$(random) mlflow_key=$(random) jobs_key=$(random)
    secret "$services" seaweedfs <<EOF
admin-access-key $admin
admin-secret-key $admin_key
s3.json {"identities":[$(identity admin "$admin" "$admin_key" '"Admin"'),$(
        identity mlflow "$mlflow" "$mlflow_key" "$(bucket mlflow)"
    ),$(identity jobs "$jobs_id" "$jobs_key" "$(bucket farandole)")]}
EOF
    printf 'AWS_ACCESS_KEY_ID %s\nAWS_SECRET_ACCESS_KEY %s\n' "$mlflow" "$mlflow_key" | secret "$services" mlflow-storage
    printf 'AWS_ACCESS_KEY_ID %s\nAWS_SECRET_ACCESS_KEY %s\n' "$jobs_id" "$jobs_key" | secret "$jobs" farandole-storage
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

# The secret with which keys of the service are hashed (32 bytes), and a file without keys, which k8s/keys.sh fills.
make_serving() {
    printf 'secret %s\nkeys.json {"format_version":1,"keys":[]}\n' "$(random 32)" | secret "$jobs" serving-access
}

# Arguments ---------------------------------------------------------------------------------------------------

print=0
groups=" storage tracking database grafana jupyterlab serving "
while (($#)); do
    case $1 in
        --print) print=1 ;;
        --without)
            [[ ${2:-} == storage || ${2:-} == database ]] ||
                { say "--without ${2:-}: unknown value; use storage or database" && exit 2; }
            groups=${groups/ $2 / }
            shift
            ;;
        *) say "$1: unknown option; the options are --print and --without storage|database" && exit 2 ;;
    esac
    shift
done
if ((print)); then
    for group in $groups; do "make_$group"; done
    exit
fi

command -v kubectl >/dev/null || { say "kubectl not found; install it: https://kubernetes.io/docs/tasks/tools" && exit 3; }
exists() { [[ -n $(kubectl --namespace "${1%/*}" get secret "${1#*/}" --output name --ignore-not-found) ]]; }

for group in $groups; do
    present=() missing=()
    for name in ${members[$group]}; do
        if exists "$name"; then present+=("$name"); else missing+=("$name"); fi
    done
    if ((${#present[@]} == 0)); then
        "make_$group" | kubectl create --filename -
    elif ((${#missing[@]})); then
        say "${missing[*]}: missing, but ${present[*]} exists, and their values belong together; restore the missing ones," \
            "or renew the whole group: see 'Secrets' in k8s/README.md"
        exit 2
    fi
done
say "all exist"
