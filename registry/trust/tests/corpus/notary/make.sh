#!/usr/bin/env bash
# Makes the corpus beside this file anew, with the real tools: notation v1.3.2, crane v0.21.9, distribution v3.1.1 (named
# `registry`), openssl 3, python3, curl and jq, all on PATH. Everything stays on the loopback interface; the private
# keys are thrown away.
#   PATH=…:$PATH registry/trust/tests/corpus/notary/make.sh
# Each NAME.json holds the descriptor of an image, and of one signature the manifest as text and the envelope in base64.
# `notation verify` accepts each of them before it is written. The .pem files are the roots.
set -euo pipefail
out=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
cd "$work"
export XDG_CONFIG_HOME=$work/config NOTATION_LOG=error

host=127.0.0.1:15057
clock=127.0.0.1:15058
cat >config.yaml <<CONFIG
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: '$work/data'}}
http: {addr: '$host'}
CONFIG
registry serve config.yaml >/dev/null 2>&1 &
server=$!
trap 'kill "$server" ${clockwork:-}; rm -rf "$work"' EXIT
until curl -sf "http://$host/v2/" >/dev/null; do kill -0 "$server"; done

# Certificates.
authority='basicConstraints=critical,CA:true
keyUsage=critical,keyCertSign,cRLSign'
signer='basicConstraints=CA:false
keyUsage=critical,digitalSignature
extendedKeyUsage=codeSigning'
clockface='keyUsage=critical,digitalSignature
extendedKeyUsage=critical,timeStamping'
key() { # NAME ALGORITHM…
  openssl genpkey -algorithm "${@:2}" -out "$1.key" 2>/dev/null
}
ec() { key "$1" EC -pkeyopt "ec_paramgen_curve:P-$2"; }
rsa() { key "$1" RSA -pkeyopt "rsa_keygen_bits:$2"; }
root() { # NAME SUBJECT
  openssl req -x509 -new -key "$1.key" -subj "$2" -days 36500 -out "$1.crt" -config <(echo "[req]
distinguished_name=d
x509_extensions=e
[d]
[e]
$authority")
  cp "$1.crt" "$1.chain"
}
issue() { # NAME ISSUER SUBJECT DAYS EXTENSIONS
  openssl req -new -key "$1.key" -subj "$3" |
    openssl x509 -req -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -days "$4" -extfile <(echo "$5") -out "$1.crt" 2>/dev/null
  cat "$1.crt" "$2.chain" >"$1.chain"
}
acme=/C=US/ST=WA/O=acme
ec root-ec 384 && root root-ec "$acme/CN=EC root"
rsa root-rsa 2048 && root root-rsa "$acme/CN=RSA root"
ec middle 256 && issue middle root-ec "$acme/CN=Intermediate" 36500 "$authority"
for curve in 256 384 521; do
  ec "es$curve" "$curve" && issue "es$curve" middle "$acme/OU=builds/CN=es$curve" 36500 "$signer"
done
for bits in 2048 3072 4096; do
  rsa "ps$bits" "$bits" && issue "ps$bits" root-rsa "$acme/OU=Tools, Inc./CN=ps$bits" 36500 "$signer"
done
ec brief 256 && issue brief root-ec "$acme/CN=valid for a day" 1 "$signer"

# Two timestamp authorities, on one port under two paths.
rsa tsa-root 2048 && root tsa-root "/C=US/ST=WA/O=clock/CN=TSA root"
rsa tsa-rsa 2048 && issue tsa-rsa tsa-root "/C=US/ST=WA/O=clock/CN=RSA clock" 36500 "$clockface"
ec tsa-ec 256 && issue tsa-ec tsa-root "/C=US/ST=WA/O=clock/CN=EC clock" 36500 "$clockface"
echo 01 >serial
for name in tsa-rsa tsa-ec; do
  cat >"$name.cnf" <<CONFIG
[tsa]
default_tsa=clock
[clock]
serial=$work/serial
signer_cert=$work/$name.crt
signer_key=$work/$name.key
certs=$work/$name.chain
signer_digest=sha256
default_policy=1.2.3.4
digests=sha256,sha384,sha512
accuracy=secs:1
ess_cert_id_alg=sha256
CONFIG
done
cat >clock.py <<'PYTHON'
import http.server, subprocess, sys
class Clock(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        with open("query", "wb") as query:
            query.write(self.rfile.read(int(self.headers["Content-Length"])))
        reply = subprocess.run(["openssl", "ts", "-reply", "-config", self.path[1:] + ".cnf", "-queryfile", "query"],
                               capture_output=True, check=True).stdout
        self.send_response(200)
        self.send_header("Content-Type", "application/timestamp-reply")
        self.end_headers()
        self.wfile.write(reply)
    def log_message(self, *_): pass
host, port = sys.argv[1].split(":")
http.server.HTTPServer((host, int(port)), Clock).serve_forever()
PYTHON
python3 clock.py "$clock" 2>/dev/null &
clockwork=$!
until curl -s "http://$clock/" >/dev/null; do kill -0 "$clockwork"; done

# notation's configuration: keys, trust stores, and a policy with and one without timestamps.
notation cert generate-test self-signed >/dev/null
config=$XDG_CONFIG_HOME/notation
cp "$config/localkeys/self-signed.crt" self-signed.crt
names='es256 es384 es521 ps2048 ps3072 ps4096 brief'
for name in $names; do
  jq -n --arg name "$name" --arg work "$work" '{name: $name, keyPath: "\($work)/\($name).key", certPath: "\($work)/\($name).chain"}'
done | jq -s --slurpfile made "$config/signingkeys.json" '{keys: ($made[0].keys + .)}' >keys.json
cp keys.json "$config/signingkeys.json"
store() { mkdir -p "$config/truststore/x509/$1" && cp "${@:2}" "$config/truststore/x509/$1"; }
store ca/corpus root-ec.crt root-rsa.crt self-signed.crt
store tsa/corpus tsa-root.crt
cat root-ec.crt >"$out/root-ec.pem"
cat root-rsa.crt >"$out/root-rsa.pem"
cat self-signed.crt >"$out/self-signed.pem"
cat tsa-root.crt >"$out/tsa-root.pem"
jq -n --arg host "$host" '
  def policy($name; $scopes; $stores): {name: $name, registryScopes: $scopes, signatureVerification: {level: "strict"},
    trustStores: $stores, trustedIdentities: ["*"]};
  {version: "1.0", trustPolicies: [policy("plain"; ["*"]; ["ca:corpus"]),
    policy("timestamped"; ["timestamped-jws", "timestamped-cose"] | map("\($host)/\(.)"); ["ca:corpus", "tsa:corpus"])]}
' >"$config/trustpolicy.json"

# The same image in one repository for each signature.
echo image >content && tar --sort=name --mtime=@0 --owner=0 --group=0 -cf layer.tar content
signature() { # NAME KEY FLAGS…
  local repository="$host/$1"
  crane append --insecure -f layer.tar -t "$repository:v1" >/dev/null 2>&1
  local digest
  digest=$(crane digest --insecure "$repository:v1")
  notation sign --insecure-registry --key "$2" "${@:3}" "$repository@$digest" >/dev/null 2>&1
  notation verify --insecure-registry "$repository@$digest" >/dev/null
  local signed
  signed=$(crane manifest --insecure "$repository:${digest/:/-}" | jq -r '.manifests[0].digest')
  crane manifest --insecure "$repository@$signed" >manifest
  crane blob --insecure "$repository@$(jq -r '.layers[0].digest' manifest)" | base64 -w0 >envelope
  crane manifest --insecure "$repository@$digest" >image
  jq -n --arg digest "$digest" --argjson size "$(stat -c %s image)" --arg mediaType "$(jq -r .mediaType image)" \
    --rawfile manifest manifest --rawfile envelope envelope \
    '{image: {mediaType: $mediaType, digest: $digest, size: $size}, manifest: $manifest, envelope: $envelope}' >"$out/$1.json"
}
for format in jws cose; do
  for name in es256 es384 es521 ps2048 ps3072 ps4096; do
    signature "$name-$format" "$name" --signature-format "$format"
  done
  signature "expiring-$format" es256 --signature-format "$format" --expiry 24h
done
signature self-signed-jws self-signed
signature annotated-cose es256 --signature-format cose --user-metadata io.example.build=7
signature brief-jws brief
signature timestamped-jws brief --timestamp-url "http://$clock/tsa-rsa" --timestamp-root-cert tsa-root.crt
signature timestamped-cose brief --signature-format cose --timestamp-url "http://$clock/tsa-ec" --timestamp-root-cert tsa-root.crt
