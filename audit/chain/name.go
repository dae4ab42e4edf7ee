// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"fmt"
	"regexp"
	"strings"
)

var (
	instancePattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
	originPattern   = regexp.MustCompile(`^([A-Za-z0-9._-]{1,128})/([0-9a-f]{16})/([0-9]{8}T[0-9]{6}Z-[0-9a-f]{8})$`)
)

// Origin is the parsed name of one life of one log:
// <instance>/<journal id>/<life>.
type Origin struct {
	Instance string // who seals: [A-Za-z0-9._-]+
	Journal  string // 64 random bits in hex, made with the journal directory
	Life     string // <UTC start>-<8 random hex>, one start of the processor
}

// ParseOrigin reads the name of an origin.
func ParseOrigin(name string) (Origin, error) {
	m := originPattern.FindStringSubmatch(name)
	if m == nil || CheckInstance(m[1]) != nil {
		return Origin{}, fmt.Errorf("origin %q is not <instance>/<journal id>/<life>", name)
	}
	return Origin{Instance: m[1], Journal: m[2], Life: m[3]}, nil
}

// String returns the name that ParseOrigin reads.
func (o Origin) String() string { return strings.Join([]string{o.Instance, o.Journal, o.Life}, "/") }

// Log returns the name of the log that o is a life of.
func (o Origin) Log() string { return o.Instance + "/" + o.Journal }

// CheckInstance says whether name can be the instance of a log. It names a
// folder beside the lock file of a store, so some names are not free.
func CheckInstance(name string) error {
	if !instancePattern.MatchString(name) || name == "." || name == ".." || name == "lock" {
		return fmt.Errorf("instance %q must match [A-Za-z0-9._-]{1,128} and not be `.`, `..` or `lock`", name)
	}
	return nil
}
