#!/bin/sh
# Copyright The otelaudit Authors
# SPDX-License-Identifier: Apache-2.0
#
# Signs ../made/types.record, which webcrypto.mjs writes, with the openssl
# command. Openssl knows nothing of records: it signs the bytes of the file.
set -eu
cd "$(dirname "$0")/../made"
value() { base64 -w0 >"openssl-$1.value"; }
openssl dgst -sha256 -sign ../keys/rsa.key -binary types.record | value RS256
openssl dgst -sha512 -sign ../keys/rsa.key -binary types.record | value RS512
openssl dgst -sha256 -sign ../keys/p256.key -binary types.record | value ES256
openssl pkeyutl -sign -inkey ../keys/ed25519.key -rawin -in types.record | value EdDSA
secret=$(base64 -d <../keys/hmac.secret | od -An -v -tx1 | tr -d ' \n')
openssl dgst -sha256 -mac HMAC -macopt "hexkey:$secret" -binary types.record | value HMAC-SHA256
openssl dgst -sha512 -mac HMAC -macopt "hexkey:$secret" -binary types.record | value HMAC-SHA512
