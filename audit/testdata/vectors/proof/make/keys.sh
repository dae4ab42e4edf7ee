#!/bin/sh
# Copyright The otelaudit Authors
# SPDX-License-Identifier: Apache-2.0
#
# Makes the test keys with the openssl command. They are public: use them for
# nothing. Keys that exist stay, because signatures were made with them; their
# certificates end in 2046.
set -eu
cd "$(dirname "$0")/../keys"
certificate() { # name, subject, arguments of genpkey
	name=$1 subject=$2
	shift 2
	[ -e "$name.key" ] && return
	openssl genpkey "$@" -out "$name.key"
	openssl req -new -x509 -key "$name.key" -subj "$subject" -days 7300 -set_serial 0x1f2e3d4c -out "$name.pem"
}
certificate rsa "/C=DE/O=Example Shop/CN=orders rsa" -algorithm RSA -pkeyopt rsa_keygen_bits:2048
certificate p256 "/C=DE/O=Example Shop/CN=orders p256" -algorithm EC -pkeyopt ec_paramgen_curve:P-256
certificate ed25519 "/C=DE/O=Example Shop/CN=orders ed25519" -algorithm ED25519
if [ ! -e next.key ]; then
	openssl genpkey -algorithm ED25519 -out next.key
	openssl pkey -in next.key -pubout -out next.pem
	openssl rand -base64 64 | tr -d '\n' >hmac.secret
fi
