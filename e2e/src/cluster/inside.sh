#!/bin/bash
# Runs a program in the cluster's network, with the cluster's name service, trust and administrator:
#   FOLDER/inside kubectl get pods --all-namespaces
# Files stay those of the machine. BERTH_HOME, if set, is the home folder: logins of clients go there.
set -euo pipefail
state=$(dirname "$(readlink -f "$0")")
for variable in ${!DOCKER_*} ${!HELM_*} ${!XDG_*} ${!COSIGN_REPOSITORY*} ${!SSL_*}; do unset "$variable"; done
export PATH="$state/bin:$PATH:/usr/sbin:/sbin" HOME="${BERTH_HOME:-$state/home/admin}"
# The cosign keys of tests have no password, and nobody is there to ask for one.
export COSIGN_PASSWORD="${COSIGN_PASSWORD-}"
export KUBECONFIG="$state/pki/admin.kubeconfig" SSL_CERT_FILE="$state/ca-bundle.crt" CURL_CA_BUNDLE="$state/ca-bundle.crt"
exec nsenter --net="/proc/$(cat "$state/init")/ns/net" -- unshare --mount -- \
  bash -c 'mount --bind "$0" "$(readlink -f /etc/resolv.conf)"; exec "$@"' "$state/resolv.conf" "$@"
