#!/usr/bin/env bash
# Make, list and revoke the API keys of the services in the cluster of the current context: `farandole keys`, applied to the
# Secret `serving-access`. Running pods take the change when the kubelet renews their files, within about a minute.
#
#   k8s/keys.sh create --name web --scope predict --expires 30d     prints the key, once
#   k8s/keys.sh list
#   k8s/keys.sh revoke web
#   NAMESPACE=team k8s/keys.sh ...                                  another namespace than `farandole`
#
# The Secret's content is on this machine only while this runs, in a private folder. Exit code 2: the Secret is missing; 3:
# kubectl or farandole is missing.
set -euo pipefail

namespace=${NAMESPACE:-farandole} name=serving-access

say() { printf 'keys: %s\n' "$*" >&2; }

case ${1:-} in
    create | list | revoke) ;;
    *) say "usage: k8s/keys.sh create|list|revoke ...; \`farandole keys --help\` shows the options" && exit 2 ;;
esac
for program in kubectl farandole; do
    command -v "$program" >/dev/null || { say "$program not found; install it" && exit 3; }
done

umask 077
folder=$(mktemp --directory)
trap 'rm -rf "$folder"' EXIT

field() { kubectl --namespace "$namespace" get secret "$name" --output "go-template=$1"; }
# The version comes first: if the Secret changes in between, the patch is refused, and no key is lost.
version=$(field '{{.metadata.resourceVersion}}') ||
    { say "the Secret $name is missing in the namespace $namespace; make it: k8s/secrets.sh" && exit 2; }
for key in secret keys.json; do field "{{index .data \"$key\" | base64decode}}" >"$folder/$key"; done
before=$(<"$folder/keys.json")

env --unset FARANDOLE_ACCESS_KEYS_FILE --unset FARANDOLE_ACCESS_SECRET_FILE \
    farandole keys "$@" --directory "$folder" >"$folder/output"
if [[ $(<"$folder/keys.json") != "$before" ]]; then
    printf '{"metadata":{"resourceVersion":"%s"},"data":{"keys.json":"%s"}}' "$version" \
        "$(base64 --wrap 0 "$folder/keys.json")" >"$folder/patch.json"
    kubectl --namespace "$namespace" patch secret "$name" --type merge --patch-file "$folder/patch.json" >/dev/null ||
        { say "the Secret $name was not changed, so nothing has happened; try again" && exit 1; }
fi
cat "$folder/output"
