#!/usr/bin/env bash
# Makes the vectors in the directory above anew, with the real cosign v3.1.2 against services.mjs; also crane v0.21.9 and
# distribution v3.1.1 (the variables BERTH_TOOL_* name all three), node 20 with npm, openssl and jq. Everything runs on the
# loopback interface once npm has its packages; the private keys are thrown away.
# Each NAME.json holds the digest of an image and, as text, every manifest and layer that cosign stored beside it.
set -Eeuo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(dirname "$here")
work=$(mktemp -d)
# Without a trust root to check its own work with, cosign asks a mirror for one: a port where nobody answers.
export COSIGN_PASSWORD='' OTEL_TRACES_EXPORTER=none TUF_ROOT="$work/tuf" TUF_MIRROR=http://127.0.0.1:9
cosign=$BERTH_TOOL_COSIGN crane=$BERTH_TOOL_CRANE

cp "$here"/{package.json,services.mjs} "$work" && cd "$work"
npm install --silent --no-fund --no-audit >/dev/null 2>&1
host=127.0.0.1:15057
cat >config.yaml <<CONFIG
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '$work/data'}}
http: {addr: '$host'}
CONFIG
"$BERTH_TOOL_DISTRIBUTION" serve config.yaml >/dev/null 2>&1 &
registry=$!
node services.mjs "$work" &
services=$!
trap 'tail -n 3 "$work/log" >&2' ERR
trap 'kill "$registry" "$services"; rm -rf "$work"' EXIT
until curl -sf "http://$host/v2/" >/dev/null; do kill -0 "$registry"; done
until [ -e ready ]; do kill -0 "$services"; done
for file in trusted_root.json own.pem own-intermediate.pem; do cp "$file" "$out"; done

key() { # NAME CURVE
  openssl genpkey -algorithm EC -pkeyopt "ec_paramgen_curve:$2" -out "$1-key.pem" 2>/dev/null
  "$cosign" import-key-pair --key "$1-key.pem" --output-key-prefix "$1" -y 2>/dev/null
  cp "$1.pub" "$out"
}
key p256 P-256
key p384 P-384
"$cosign" import-key-pair --key holder-key.pem --output-key-prefix holder -y 2>/dev/null

image() { # REPOSITORY: pushes a small image and prints REPOSITORY@DIGEST
  echo "$1" >content && tar cf layer.tar content
  "$crane" append --insecure -f layer.tar -t "$host/$1:v1" >/dev/null 2>&1
  echo "$host/$1@$("$crane" digest --insecure "$host/$1:v1")"
}
artifact() { # REPOSITORY REFERENCE: one manifest and its layers as text
  "$crane" manifest --insecure "$1:$2" >manifest || "$crane" manifest --insecure "$1@$2" >manifest
  echo '{}' >layers
  for digest in $(jq -r '.layers[].digest' manifest); do
    "$crane" blob --insecure "$1@$digest" >blob
    jq --arg digest "$digest" --rawfile text blob '.[$digest] = $text' layers >next && mv next layers
  done
  jq -n --rawfile manifest manifest --slurpfile layers layers '{manifest: $manifest, layers: $layers[0]}'
}
vector() { # NAME IMAGE: everything that cosign stored beside the image
  local repository=${2%@*} digest=${2#*@}
  local tag=${digest/:/-}
  for reference in $("$crane" ls --insecure "$repository"); do
    case $reference in
      "$tag".*) artifact "$repository" "$reference" ;;
      "$tag")
        for referrer in $("$crane" manifest --insecure "$repository:$tag" | jq -r '.manifests[].digest'); do
          artifact "$repository" "$referrer" 2>/dev/null
        done
        ;;
    esac
  done | jq -sc --arg subject "$digest" '{subject: $subject, artifacts: .}' >"$out/$1.json"
}
sign() { # NAME FLAGS…
  local image
  image=$(image "$1")
  "$cosign" sign --allow-http-registry -y "${@:2}" "$image" 2>>log
  vector "$1" "$image"
}
identity=(--identity-token token)
certificate=(--key holder.key --certificate holder.pem --certificate-chain own-chain.pem)
# With a trust root, cosign itself finds good what it made.
trusted=(--trusted-root trusted_root.json)
base=$(cat base)
# The classic formats know no signing configs.
classic=(--new-bundle-format=false --use-signing-config=false --fulcio-url "$base/fulcio/good" --rekor-url "$base/rekor1")
time=(--timestamp-server-url "$base/tsa")
unlogged=(--tlog-upload=false)

config() { echo --signing-config "$1.config.json"; }
sign keyless-v1 $(config good) "${identity[@]}" "${trusted[@]}"
sign keyless-v1-time $(config log-and-time) "${identity[@]}" "${trusted[@]}"
sign keyless-v2 $(config v2) "${identity[@]}" "${trusted[@]}"
sign keyless-time $(config time) "${identity[@]}" "${trusted[@]}"
sign keyless-classic "${classic[@]}" "${identity[@]}" "${trusted[@]}"
sign keyless-classic-time "${classic[@]}" "${time[@]}" "${identity[@]}" "${trusted[@]}"
sign keyless-classic-only-time "${classic[@]}" "${time[@]}" "${unlogged[@]}" "${identity[@]}" "${trusted[@]}"
for variant in expired-intermediate expired-root expired no-sct two-names user-name old-issuer bad-issuer no-issuer no-usage no-purpose server-purpose; do
  sign "keyless-$variant" $(config "$variant") "${identity[@]}"
done
sign key-p256-v1 $(config good) --key p256.key "${trusted[@]}"
sign key-p256-classic "${classic[@]}" --key p256.key
sign key-p384-classic "${classic[@]}" --key p384.key
sign key-p384-time $(config time) --key p384.key
sign key-p256-v2 $(config v2) --key p256.key
sign key-p256-time $(config time) --key p256.key
sign key-p256-classic-time "${classic[@]}" "${time[@]}" "${unlogged[@]}" --key p256.key
sign certificate $(config nothing) "${certificate[@]}"
sign certificate-classic "${classic[@]}" "${unlogged[@]}" "${certificate[@]}"
sign certificate-v1 $(config log-and-time) "${certificate[@]}"
sign certificate-classic-v1 "${classic[@]}" "${time[@]}" "${certificate[@]}"

echo '{"reviewed": true}' >predicate.json
attest() { # NAME FLAGS…
  local image
  image=$(image "$1")
  "$cosign" attest --allow-http-registry -y "${identity[@]}" "${trusted[@]}" --type https://example.com/review/v1 --predicate predicate.json "${@:2}" "$image" 2>>log
  vector "$1" "$image"
}
attest keyless-attested $(config good)
attest keyless-attested-classic "${classic[@]}"
