// Fulcio, Rekor (v1 and v2), a timestamp authority and a certificate log in one process on the loopback interface, as
// far as cosign asks for them. Timestamps and certificate logs are those of @sigstore/mock; certificates and logs are
// made here, because some must be wrong in ways that no real service would be. The path says which: a signing config
// with the authority `…/fulcio/no-sct` gets certificates that no log saw.
//   node services.mjs DIRECTORY   writes signing configs, trusted_root.json and a token there, then serves.
import 'reflect-metadata';
import { Crypto } from '@peculiar/webcrypto';
import * as x509 from '@peculiar/x509';
import { initializeCTLog, initializeTSA } from '@sigstore/mock';
import * as asn1js from 'asn1js';
import * as pkijs from 'pkijs';
import crypto from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';

const directory = process.argv[2];
const webcrypto = new Crypto();
x509.cryptoProvider.set(webcrypto);
pkijs.setEngine('node', new pkijs.CryptoEngine({ crypto: webcrypto }));
const P256 = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const DAY = 24 * 3600 * 1000;
const now = Date.now();
const at = (days) => new Date(now + days * DAY);
const sha256 = (...parts) => parts.reduce((hash, part) => hash.update(part), crypto.createHash('sha256')).digest();
const pair = () => crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
const spki = (key) => key.export({ format: 'der', type: 'spki' });
const write = (name, value) => fs.writeFileSync(`${directory}/${name}`, typeof value === 'string' ? value : JSON.stringify(value, null, 1));
// JSON with sorted keys (RFC 8785; there are no fractions here).
const canonical = (value) => JSON.stringify(value, (_, v) =>
  v && typeof v === 'object' && !Array.isArray(v) ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1))) : v);

// Authorities: a root and an intermediate each, with the days from and until which they are valid.
async function authority(name, [rootFrom, rootUntil], [from, until]) {
  const keys = () => webcrypto.subtle.generateKey(P256, true, ['sign', 'verify']);
  const ca = (pathLength) => [
    new x509.BasicConstraintsExtension(true, pathLength, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
  ];
  const rootKeys = await keys();
  const root = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: '01', name: `CN=${name} root,O=example`, notBefore: at(rootFrom), notAfter: at(rootUntil),
    signingAlgorithm: P256, keys: rootKeys, extensions: ca(1),
  });
  const signer = await keys();
  const intermediate = await x509.X509CertificateGenerator.create({
    serialNumber: '02', subject: `CN=${name},O=example`, issuer: root.subject, notBefore: at(from), notAfter: at(until),
    signingAlgorithm: P256, publicKey: signer.publicKey, signingKey: rootKeys.privateKey,
    extensions: [...ca(0), new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.codeSigning])],
  });
  return { root, intermediate, signer };
}

const authorities = {
  good: await authority('fulcio', [-30, 3650], [-30, 3650]),
  'expired-intermediate': await authority('late', [-30, 3650], [-30, -1]),
  'expired-root': await authority('old', [-30, -1], [-30, 3650]),
};
const ctKeys = pair();
const ctLog = await initializeCTLog(ctKeys);

const utf8 = (value) => new asn1js.Utf8String({ value }).toBER(false);
const fulcio = (number, value) => new x509.Extension(`1.3.6.1.4.1.57264.1.${number}`, false, value);
const userName = (value) => new x509.Extension('2.5.29.17', true, new asn1js.Sequence({ value: [
  new asn1js.Constructed({ idBlock: { tagClass: 3, tagNumber: 0 }, value: [
    new asn1js.ObjectIdentifier({ value: '1.3.6.1.4.1.57264.1.7' }),
    new asn1js.Constructed({ idBlock: { tagClass: 3, tagNumber: 0 }, value: [new asn1js.Utf8String({ value })] }),
  ] }),
] }).toBER(false));

// One certificate for ten minutes; `variant` says what is wrong with it.
async function issue(variant, publicKeyPem, claims) {
  const { intermediate, signer } = authorities[variant] ?? authorities.good;
  const iss = claims.iss;
  const names = { 'two-names': [{ type: 'email', value: claims.email }, { type: 'url', value: 'https://example.com/ci' }] };
  const issuer = {
    'old-issuer': [fulcio(1, Buffer.from(iss))],
    'bad-issuer': [fulcio(1, Buffer.from(iss)), fulcio(8, Buffer.from(iss))],
    'no-issuer': [],
  };
  const usage = { 'no-usage': [], 'no-purpose': [], 'server-purpose': [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth])] };
  const [from, until] = variant === 'expired' ? [-2, -1] : [-1 / 1440, 9 / 1440];
  const publicKey = await webcrypto.subtle.importKey('spki', crypto.createPublicKey(publicKeyPem).export({ format: 'der', type: 'spki' }), P256, true, ['verify']);
  const tbs = {
    serialNumber: crypto.randomBytes(8).toString('hex'), issuer: intermediate.subject, notBefore: at(from), notAfter: at(until),
    publicKey, signingAlgorithm: P256, signingKey: signer.privateKey,
    extensions: [
      ...(variant === 'no-usage' ? [] : [new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true)]),
      ...(variant in usage && variant !== 'no-usage' ? usage[variant] : [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.codeSigning])]),
      variant === 'user-name' ? userName('alice!example.com')
        : new x509.SubjectAlternativeNameExtension(names[variant] ?? [{ type: 'email', value: claims.email }], true),
      ...(issuer[variant] ?? [fulcio(1, Buffer.from(iss)), fulcio(8, utf8(iss))]),
    ],
  };
  if (variant !== 'no-sct') {
    const precertificate = await x509.X509CertificateGenerator.create(tbs);
    const sct = Buffer.from(await ctLog.log(precertificate.rawData, sha256(Buffer.from(await webcrypto.subtle.exportKey('spki', signer.publicKey)))));
    const length = Buffer.alloc(2);
    length.writeUInt16BE(sct.length);
    const list = new asn1js.OctetString({ valueHex: Buffer.concat([length, sct]) });
    tbs.extensions.push(new x509.Extension('1.3.6.1.4.1.11129.2.4.2', false, list.toBER(false)));
  }
  return [await x509.X509CertificateGenerator.create(tbs), intermediate];
}

// Logs: a Merkle tree (RFC 6962) each, that grows.
const leaf = (body) => sha256(Buffer.from([0]), body);
const node = (left, right) => sha256(Buffer.from([1]), left, right);
const split = (count) => 2 ** Math.floor(Math.log2(count - 1));
const head = (leaves) => leaves.length === 1 ? leaves[0] : node(head(leaves.slice(0, split(leaves.length))), head(leaves.slice(split(leaves.length))));
function path(index, leaves) {
  if (leaves.length === 1) return [];
  const left = split(leaves.length);
  return index < left
    ? [...path(index, leaves.slice(0, left)), head(leaves.slice(left))]
    : [...path(index - left, leaves.slice(left)), head(leaves.slice(0, left))];
}
function log(name, origin) {
  const { publicKey, privateKey } = pair();
  const der = spki(publicKey);
  const id = sha256(der);
  const leaves = [leaf(Buffer.from('first')), leaf(Buffer.from('second'))];
  const add = (entry) => {
    const body = Buffer.from(canonical(entry));
    const index = leaves.push(leaf(body)) - 1;
    const root = head(leaves);
    const note = `${origin}\n${leaves.length}\n${root.toString('base64')}\n`;
    const signature = Buffer.concat([id.subarray(0, 4), crypto.sign('sha256', Buffer.from(note), privateKey)]);
    const checkpoint = `${note}\n\u2014 ${name} ${signature.toString('base64')}\n`;
    return { body, index, root, size: leaves.length, hashes: path(index, leaves), checkpoint };
  };
  return { der, id, add, sign: (bytes) => crypto.sign('sha256', bytes, privateKey) };
}
const rekor1 = log('rekor.example', 'rekor.example - 1');
const rekor2 = log('rekor-v2.example', 'rekor-v2.example');

// What Rekor v1 stores for a proposed entry.
function stored({ apiVersion, kind, spec }) {
  if (kind !== 'dsse') return { apiVersion, kind, spec };
  const text = spec.proposedContent.envelope;
  const envelope = JSON.parse(text);
  const hash = (bytes) => ({ algorithm: 'sha256', value: sha256(bytes).toString('hex') });
  return { apiVersion, kind, spec: {
    envelopeHash: hash(Buffer.from(text)), payloadHash: hash(Buffer.from(envelope.payload, 'base64')),
    signatures: envelope.signatures.map(({ sig }, i) => ({ signature: sig, verifier: spec.proposedContent.verifiers[i] })),
  } };
}
function addV1(proposed) {
  const entry = rekor1.add(stored(proposed));
  const promised = { body: entry.body.toString('base64'), integratedTime: Math.floor(Date.now() / 1000), logID: rekor1.id.toString('hex'), logIndex: entry.index };
  const uuid = leaf(entry.body).toString('hex');
  return [uuid, { [uuid]: { ...promised, verification: {
    signedEntryTimestamp: rekor1.sign(Buffer.from(canonical(promised))).toString('base64'),
    inclusionProof: { checkpoint: entry.checkpoint, hashes: entry.hashes.map((h) => h.toString('hex')), logIndex: entry.index, rootHash: entry.root.toString('hex'), treeSize: entry.size },
  } } }];
}
function addV2({ hashedRekordRequestV002: { digest, signature } }) {
  const spec = { hashedRekordV002: { data: { algorithm: 'SHA2_256', digest }, signature } };
  const entry = rekor2.add({ apiVersion: '0.0.2', kind: 'hashedrekord', spec });
  return {
    logIndex: String(entry.index), logId: { keyId: rekor2.id.toString('base64') }, kindVersion: { kind: 'hashedrekord', version: '0.0.2' },
    canonicalizedBody: entry.body.toString('base64'),
    inclusionProof: { logIndex: String(entry.index), rootHash: entry.root.toString('base64'), treeSize: String(entry.size), hashes: entry.hashes.map((h) => h.toString('base64')), checkpoint: { envelope: entry.checkpoint } },
  };
}

const tsa = await initializeTSA(pair());
// Whole seconds, as real authorities say.
tsa.getCurrentTime = () => new Date(Math.floor(Date.now() / 1000) * 1000);
async function timestamp(query) {
  const request = new pkijs.TimeStampReq({ schema: asn1js.fromBER(query).result });
  return tsa.timestamp({
    artifactHash: Buffer.from(request.messageImprint.hashedMessage.valueBlock.valueHexView), hashAlgorithmOID: request.messageImprint.hashAlgorithm.algorithmId,
    nonce: 1, policyOID: '1.3.6.1.4.1.57264.2', certReq: request.certReq ?? false,
  });
}

const pem = (certificate) => certificate.toString('pem');
const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const answer = (type, content, status = 201, headers = {}) => response.writeHead(status, { 'content-type': type, ...headers }).end(content);
  try {
    const [, service, variant] = request.url.split('/');
    if (service === 'fulcio') {
      const { publicKeyRequest } = JSON.parse(body);
      const claims = JSON.parse(Buffer.from(request.headers.authorization.split('.')[1], 'base64url'));
      const chain = await issue(variant, publicKeyRequest.publicKey.content, claims);
      answer('application/json', JSON.stringify({ signedCertificateEmbeddedSct: { chain: { certificates: chain.map(pem) } } }), 200);
    } else if (service === 'rekor1') {
      const [uuid, entry] = addV1(JSON.parse(body));
      answer('application/json', JSON.stringify(entry), 201, { etag: uuid, location: `/api/v1/log/entries/${uuid}` });
    } else if (service === 'rekor2') {
      answer('application/json', JSON.stringify(addV2(JSON.parse(body))));
    } else if (service === 'tsa') {
      answer('application/timestamp-reply', await timestamp(body));
    } else {
      response.writeHead(404).end();
    }
  } catch (error) {
    console.error(error);
    response.writeHead(500).end(String(error));
  }
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const base = `http://127.0.0.1:${server.address().port}`;

// What the tests trust.
const validFor = { start: at(-31).toISOString() };
const chainOf = (...certificates) => ({ certificates: certificates.map((c) => ({ rawBytes: Buffer.from(c).toString('base64') })) });
const keyOf = (der) => ({ rawBytes: der.toString('base64'), keyDetails: 'PKIX_ECDSA_P256_SHA_256', validFor });
const tlog = ({ der, id }, baseUrl) => ({ baseUrl, hashAlgorithm: 'SHA2_256', publicKey: keyOf(der), logId: { keyId: id.toString('base64') } });
write('trusted_root.json', {
  mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1',
  tlogs: [tlog(rekor1, 'https://rekor.example'), tlog(rekor2, 'https://rekor-v2.example')],
  certificateAuthorities: Object.values(authorities).map(({ root, intermediate }) => ({
    subject: { organization: 'example', commonName: 'fulcio' }, uri: 'https://fulcio.example', certChain: chainOf(intermediate.rawData, root.rawData), validFor,
  })),
  ctlogs: [tlog({ der: spki(ctKeys.publicKey), id: sha256(spki(ctKeys.publicKey)) }, 'https://ct.example')],
  timestampAuthorities: [{ subject: { organization: 'example', commonName: 'tsa' }, uri: 'https://tsa.example', certChain: chainOf(tsa.intCertificate, tsa.rootCertificate), validFor }],
});
const service = (path, majorApiVersion = 1) => [{ url: `${base}/${path}`, majorApiVersion, validFor, operator: 'example' }];
const config = (variant, log, time) => ({
  mediaType: 'application/vnd.dev.sigstore.signingconfig.v0.2+json',
  caUrls: service(`fulcio/${variant}`), oidcUrls: [], rekorTlogConfig: { selector: 'ANY' }, tsaConfig: { selector: 'ANY' },
  rekorTlogUrls: log ? service(`rekor${log}`, log) : [], tsaUrls: time ? service('tsa') : [],
});
const variants = ['good', 'expired-intermediate', 'expired-root', 'no-sct', 'two-names', 'user-name', 'old-issuer', 'bad-issuer', 'no-issuer', 'no-usage', 'no-purpose', 'server-purpose', 'expired'];
for (const variant of variants) write(`${variant}.config.json`, config(variant, 1, false));
write('log-and-time.config.json', config('good', 1, true));
write('v2.config.json', config('good', 2, true));
write('time.config.json', config('good', 0, true));
write('nothing.config.json', config('good', 0, false));

// An authority of the user's own, and a certificate of ten years by it.
const own = await authority('own', [-30, 3650], [-30, 3650]);
const holder = pair();
const certificate = await x509.X509CertificateGenerator.create({
  serialNumber: '03', subject: 'CN=Build,O=example', issuer: own.intermediate.subject, notBefore: at(-1), notAfter: at(3649), signingAlgorithm: P256, signingKey: own.signer.privateKey,
  publicKey: await webcrypto.subtle.importKey('spki', spki(holder.publicKey), P256, true, ['verify']),
  extensions: [
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.codeSigning]),
    new x509.SubjectAlternativeNameExtension([{ type: 'email', value: 'build@example.com' }]),
  ],
});
write('own.pem', pem(own.root) + '\n');
write('own-intermediate.pem', pem(own.intermediate) + '\n');
write('own-chain.pem', `${pem(own.intermediate)}\n${pem(own.root)}\n`);
write('holder.pem', pem(certificate) + '\n');
write('holder-key.pem', holder.privateKey.export({ format: 'pem', type: 'pkcs8' }));
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const seconds = Math.floor(now / 1000);
write('token', `${part({ alg: 'none' })}.${part({ iss: 'https://issuer.example', aud: 'sigstore', sub: 'alice', email: 'alice@example.com', email_verified: true, iat: seconds, exp: seconds + 3600 })}.`);
write('base', base);
write('ready', '');
