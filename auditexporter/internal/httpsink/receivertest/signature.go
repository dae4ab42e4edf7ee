// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package receivertest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// CheckSignature says whether header signs body with secret, at most five
// minutes away from now. It is the example in docs/http.md.
func CheckSignature(secret, header string, body []byte, now time.Time) bool {
	parts := strings.Split(header, ",")
	seconds, ok := strings.CutPrefix(parts[0], "t=")
	at, err := strconv.ParseInt(seconds, 10, 64)
	if !ok || err != nil || now.Sub(time.Unix(at, 0)).Abs() > 5*time.Minute {
		return false
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	want := mac.Sum(nil)
	for _, part := range parts[1:] {
		given, isSignature := strings.CutPrefix(part, "v1=")
		got, err := hex.DecodeString(given)
		if isSignature && err == nil && hmac.Equal(got, want) {
			return true
		}
	}
	return false
}
