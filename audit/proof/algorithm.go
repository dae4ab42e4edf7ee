// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"fmt"
	"strings"
)

// Algorithm is a way to make a proof. The zero Algorithm is none.
type Algorithm uint8

// The algorithms, by the names that OTEP 0267 has for them.
const (
	RS256 Algorithm = iota + 1
	RS512
	ES256
	EdDSA
	HMACSHA256
	HMACSHA512
)

var algorithmNames = [...]string{
	RS256: "RS256", RS512: "RS512", ES256: "ES256", EdDSA: "EdDSA", HMACSHA256: "HMAC-SHA256", HMACSHA512: "HMAC-SHA512",
}

// ParseAlgorithm returns the algorithm of a name, which has one spelling.
func ParseAlgorithm(name string) (Algorithm, error) {
	for a := RS256; int(a) < len(algorithmNames); a++ {
		if algorithmNames[a] == name {
			return a, nil
		}
	}
	return 0, fmt.Errorf("algorithm must be one of %s, found %.40q", strings.Join(algorithmNames[RS256:], ", "), name)
}

// String is the algorithm's name, empty for none.
func (a Algorithm) String() string {
	if int(a) < len(algorithmNames) {
		return algorithmNames[a]
	}
	return ""
}

// MAC says whether the one who verifies could have made the proof as well.
func (a Algorithm) MAC() bool { return a == HMACSHA256 || a == HMACSHA512 }
