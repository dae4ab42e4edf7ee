// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0
//
// Signs types.json with the Web Cryptography API of Node.js, over a canonical
// form of its own making: JSON.stringify writes what RFC 8785 asks for once the
// members are in order. ES256 comes out as r‖s here.
import { readFileSync, writeFileSync } from "node:fs";
import { webcrypto } from "node:crypto";

const at = (path) => new URL(path, import.meta.url);
const { subtle } = webcrypto;

function typed(value) {
  if ("stringValue" in value) return { stringValue: value.stringValue };
  if ("intValue" in value) return { intValue: String(value.intValue) };
  if ("doubleValue" in value) return { doubleValue: value.doubleValue };
  if ("boolValue" in value) return { boolValue: value.boolValue };
  if ("bytesValue" in value) return { bytesValue: value.bytesValue };
  if ("arrayValue" in value) return (value.arrayValue.values ?? []).map(typed);
  if ("kvlistValue" in value) return map(value.kvlistValue.values ?? []);
  return null;
}

function map(pairs) {
  const sorted = [...new Map(pairs.map(({ key, value }) => [key, typed(value)]))].sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(sorted);
}

function canonical(record) {
  const out = {};
  const attributes = map(record.attributes.filter(({ key }) => !key.startsWith("audit.integrity.")));
  if (Object.keys(attributes).length > 0) out.attributes = attributes;
  if (record.body && Object.keys(record.body).length > 0) out.body = typed(record.body);
  if (record.eventName) out.event_name = record.eventName;
  if (record.observedTimeUnixNano > 0) out.observed_timestamp = record.observedTimeUnixNano;
  if (record.spanId) out.span_id = record.spanId;
  if (record.timeUnixNano > 0) out.timestamp = record.timeUnixNano;
  if (record.traceId) out.trace_id = record.traceId;
  return JSON.stringify(out);
}

const request = JSON.parse(readFileSync(at("types.json")));
const message = Buffer.from(canonical(request.resourceLogs[0].scopeLogs[0].logRecords[0]));
writeFileSync(at("../made/types.record"), message);

const der = (name) =>
  Buffer.from(readFileSync(at(`../keys/${name}.key`), "utf8").replace(/-----[^-]+-----/g, ""), "base64");
const secret = Buffer.from(readFileSync(at("../keys/hmac.secret"), "utf8"), "base64");
const rsa = (hash) => ({ name: "RSASSA-PKCS1-v1_5", hash });
const hmac = (hash) => ({ name: "HMAC", hash });
for (const [name, format, key, algorithm] of [
  ["RS256", "pkcs8", der("rsa"), rsa("SHA-256")],
  ["RS512", "pkcs8", der("rsa"), rsa("SHA-512")],
  ["ES256", "pkcs8", der("p256"), { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" }],
  ["EdDSA", "pkcs8", der("ed25519"), { name: "Ed25519" }],
  ["HMAC-SHA256", "raw", secret, hmac("SHA-256")],
  ["HMAC-SHA512", "raw", secret, hmac("SHA-512")],
]) {
  const imported = await subtle.importKey(format, key, algorithm, false, ["sign"]);
  const value = Buffer.from(await subtle.sign(algorithm, imported, message)).toString("base64");
  writeFileSync(at(`../made/webcrypto-${name}.value`), value);
}
