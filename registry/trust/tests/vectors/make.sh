#!/usr/bin/env bash
# Makes the vectors beside this file anew, with the real tools: cosign v3.1.2, crane v0.21.9, distribution v3.1.1 (named
# `registry`), openssl and jq, all on PATH. Everything stays on the loopback interface; the private keys are thrown away.
#   PATH=…:$PATH registry/trust/tests/vectors/make.sh
# Each NAME.json holds the digest of an image and, as text, every manifest and layer that cosign stored beside it.
set -euo pipefail
out=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
cd "$work"
export COSIGN_PASSWORD='' OTEL_TRACES_EXPORTER=none

host=127.0.0.1:15056
cat >config.yaml <<CONFIG
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '$work/data'}}
http: {addr: '$host'}
CONFIG
registry serve config.yaml >/dev/null 2>&1 &
server=$!
trap 'kill "$server"; rm -rf "$work"' EXIT
until curl -sf "http://$host/v2/" >/dev/null; do kill -0 "$server"; done

key() { # NAME ALGORITHM…
  openssl genpkey -algorithm "${@:2}" -out "$1.pem" 2>/dev/null
  cosign import-key-pair --key "$1.pem" --output-key-prefix "$1" -y 2>/dev/null
  cp "$1.pub" "$out/$1.pub"
}
key p256 EC -pkeyopt ec_paramgen_curve:P-256
key other EC -pkeyopt ec_paramgen_curve:P-256
key p384 EC -pkeyopt ec_paramgen_curve:P-384
key p521 EC -pkeyopt ec_paramgen_curve:P-521
key rsa RSA -pkeyopt rsa_keygen_bits:2048
key ed25519 ed25519
# A key that must be refused, and one key in another spelling (a compressed point).
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 2>/dev/null | openssl pkey -pubout -out "$out/rsa1024.pub"
openssl ec -in p256.pem -pubout -conv_form compressed -out "$out/p256-compressed.pub" 2>/dev/null

image() { # REPOSITORY: pushes a small image and prints REPOSITORY@DIGEST
  echo "$1" >content && tar cf layer.tar content
  crane append --insecure -f layer.tar -t "$host/$1:v1" >/dev/null 2>&1
  echo "$host/$1@$(crane digest --insecure "$host/$1:v1")"
}
sign() { # KEY IMAGE FLAGS…
  cosign sign --allow-http-registry --key "$1.key" --use-signing-config=false --tlog-upload=false -y "${@:3}" "$2" 2>/dev/null
}
artifact() { # REPOSITORY REFERENCE: one manifest and its layers as text
  crane manifest --insecure "$1:$2" >manifest || crane manifest --insecure "$1@$2" >manifest
  echo '{}' >layers
  for digest in $(jq -r '.layers[].digest' manifest); do
    crane blob --insecure "$1@$digest" >blob
    jq --arg digest "$digest" --rawfile text blob '.[$digest] = $text' layers >next && mv next layers
  done
  jq -n --rawfile manifest manifest --slurpfile layers layers '{manifest: $manifest, layers: $layers[0]}'
}
vector() { # NAME IMAGE: everything that cosign stored beside the image
  local repository=${2%@*} digest=${2#*@}
  local tag=${digest/:/-}
  for reference in $(crane ls --insecure "$repository"); do
    case $reference in
      "$tag.sig" | "$tag.att") artifact "$repository" "$reference" ;;
      "$tag")
        for referrer in $(crane manifest --insecure "$repository:$tag" | jq -r '.manifests[].digest'); do
          artifact "$repository" "$referrer" 2>/dev/null
        done
        ;;
    esac
  done | jq -s --arg subject "$digest" '{subject: $subject, artifacts: .}' >"$out/$1.json"
}

classic=--new-bundle-format=false
for key in p256 p384 p521 rsa ed25519; do
  image=$(image "classic/$key") && sign "$key" "$image" "$classic" && vector "classic-$key" "$image"
  image=$(image "bundle/$key") && sign "$key" "$image" && vector "bundle-$key" "$image"
done
image=$(image unsigned) && vector unsigned "$image"
image=$(image classic/referrer)
COSIGN_EXPERIMENTAL=1 sign p256 "$image" "$classic" --registry-referrers-mode=oci-1-1 && vector classic-referrer "$image"
image=$(image classic/two) && sign p256 "$image" "$classic" && sign other "$image" "$classic" && vector classic-two "$image"
image=$(image classic/twice) && sign p256 "$image" "$classic" && sign p256 "$image" "$classic" -a n=2 && vector classic-twice "$image"
image=$(image bundle/two) && sign p256 "$image" && sign other "$image" && vector bundle-two "$image"
image=$(image bundle/twice) && sign p256 "$image" && sign p256 "$image" -a n=2 && vector bundle-twice "$image"
image=$(image both) && sign p256 "$image" && sign other "$image" "$classic" && vector both "$image"
attest() { # KEY TYPE PREDICATE IMAGE FLAGS…
  echo "$3" >predicate.json
  cosign attest --allow-http-registry --key "$1.key" --use-signing-config=false --tlog-upload=false -y \
    --type "$2" --predicate predicate.json "${@:5}" "$4" 2>/dev/null
}
review=https://example.com/review/v1
scan='{"scanner": {"uri": "trivy", "result": [{"id": "CVE-1", "severity": "LOW"}]},
  "metadata": {"scanStartedOn": "2026-05-31T11:59:00Z", "scanFinishedOn": "2026-05-31T12:00:00Z"}}'
image=$(image attested) && attest p256 "$review" '{}' "$image" && vector attested "$image"
image=$(image attested/classic) && attest p256 "$review" '{"approved": true}' "$image" "$classic"
attest other vuln "$scan" "$image" "$classic" && vector attested-classic "$image"
image=$(image attested/bundle) && sign p256 "$image" && attest p256 vuln "$scan" "$image" && vector attested-bundle "$image"
