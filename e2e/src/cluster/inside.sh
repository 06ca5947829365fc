#!/bin/bash
# Runs a program in the cluster's network, with the cluster's name service, trust and administrator:
#   FOLDER/inside kubectl get pods --all-namespaces
# Files stay those of the machine. BERTH_HOME, if set, is the home folder: logins of clients go there.
# BERTH_OUTSIDE, if set: only the API server is reached and trusted, as from a machine that is not in the cluster.
set -euo pipefail
state=$(dirname "$(readlink -f "$0")")
for variable in ${!DOCKER_*} ${!HELM_*} ${!XDG_*} ${!COSIGN_REPOSITORY*} ${!SSL_*}; do unset "$variable"; done
export PATH="$state/bin:$PATH:/usr/sbin:/sbin" HOME="${BERTH_HOME:-$state/home/admin}"
# The cosign keys of tests have no password, and nobody is there to ask for one.
export COSIGN_PASSWORD="${COSIGN_PASSWORD-}"
export KUBECONFIG="$state/pki/admin.kubeconfig" SSL_CERT_FILE="$state/ca-bundle.crt" CURL_CA_BUNDLE="$state/ca-bundle.crt"
resolver="$state/resolv.conf"
if [ -n "${BERTH_OUTSIDE-}" ]; then
  resolver=/dev/null
  unset SSL_CERT_FILE CURL_CA_BUNDLE
fi
exec nsenter --net="/proc/$(cat "$state/init")/ns/net" -- unshare --mount -- \
  bash -c 'mount --bind "$0" "$(readlink -f /etc/resolv.conf)"; exec "$@"' "$resolver" "$@"
