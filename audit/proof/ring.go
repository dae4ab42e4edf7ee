// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// MaxKeys is how many keys a ring holds.
const MaxKeys = 1024

// Key is what a ring knows about a key.
type Key struct {
	// ID names the key in verdicts and, where a record names its key so, in
	// claims: letters, digits and ._@-, at most 128.
	ID string
	Material
	// Algorithms are the only ones that the key is used with; at least one.
	Algorithms []Algorithm
	// NotBefore and NotAfter bound the time in which what the key proves
	// counts; zero: no bound. Those of a certificate bound it as well.
	NotBefore, NotAfter time.Time
	// Services and Tenants are the only ones whose records the key may prove;
	// none: any.
	Services, Tenants []string
}

var keyID = regexp.MustCompile(`^[A-Za-z0-9._@-]{1,128}$`)

// Check says why a key cannot be used as it is described.
func (k *Key) Check() error {
	if !keyID.MatchString(k.ID) {
		return errors.New("id must be 1 to 128 letters, digits and . _ @ -")
	}
	if k.checker == nil {
		return fmt.Errorf("key %s has no material", k.ID)
	}
	if len(k.Algorithms) == 0 {
		return fmt.Errorf("key %s has no algorithms", k.ID)
	}
	for _, a := range k.Algorithms {
		if !k.checker.can(a) {
			return fmt.Errorf("key %s cannot be used with %s: its material is for %v", k.ID, a, k.Can())
		}
	}
	if !k.NotAfter.IsZero() && k.NotAfter.Before(k.NotBefore) {
		return fmt.Errorf("key %s ends before it begins", k.ID)
	}
	return nil
}

func (k *Key) holdsAt(now time.Time) bool {
	if now.Before(k.NotBefore) || !k.NotAfter.IsZero() && now.After(k.NotAfter) {
		return false
	}
	c := k.certificate
	return c == nil || !now.Before(c.NotBefore) && !now.After(c.NotAfter)
}

func (k *Key) speaksFor(s *Subject) bool {
	return (len(k.Services) == 0 || slices.Contains(k.Services, s.Service)) &&
		(len(k.Tenants) == 0 || slices.Contains(k.Tenants, s.Tenant))
}

// Ring is a trust policy. Immutable; a nil Ring has no keys.
type Ring struct {
	keys        []Key
	byReference map[string][]*Key // by each form in which a record may name a key
}

// NewRing makes a ring. An error names the key that cannot be used as it is
// described.
func NewRing(keys []Key) (*Ring, error) {
	if len(keys) > MaxKeys {
		return nil, fmt.Errorf("%d keys, more than %d", len(keys), MaxKeys)
	}
	r := &Ring{keys: slices.Clone(keys), byReference: map[string][]*Key{}}
	ids := map[string]bool{}
	for i := range r.keys {
		key := &r.keys[i]
		if err := key.Check(); err != nil {
			return nil, err
		}
		if ids[key.ID] {
			return nil, fmt.Errorf("two keys have the id %s", key.ID)
		}
		ids[key.ID] = true
		for _, reference := range references(key) {
			if !slices.Contains(r.byReference[reference], key) {
				r.byReference[reference] = append(r.byReference[reference], key)
			}
		}
	}
	return r, nil
}

// named returns the keys that a claim can mean, or those of one algorithm where
// it names none.
func (r *Ring) named(c *Claim, a Algorithm) []*Key {
	if r == nil {
		return nil
	}
	if c.Certificate != "" {
		reference := c.reference
		if reference == "" {
			reference = normal(c.Certificate)
		}
		return r.byReference[reference]
	}
	var keys []*Key
	for i := range r.keys {
		if slices.Contains(r.keys[i].Algorithms, a) {
			keys = append(keys, &r.keys[i])
		}
	}
	return keys
}
