// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// What validation does with a record that breaks the schema.
const (
	onInvalidFlag   = "flag"
	onInvalidReject = "reject"
)

// What redaction does with a value, and the limits with a record.
const (
	modeMask         = "mask"
	modeRemove       = "remove"
	oversizeTruncate = "truncate"
	oversizeReject   = "reject"
)

// Bounds of the configuration itself.
const (
	minRecordBytes = 4096 // the protected fields, cut short, and the marks always fit
	minPartBytes   = 128  // a truncation marker fits
	maxMaxDepth    = 60   // leaves room for a marker below the canonical depth of 64
	maxMaskBytes   = 64
	maxPatternSize = 1024
)

// ValidationConfig says what a sound audit record is, and what happens to
// others.
type ValidationConfig struct {
	// OnInvalid is `flag` (default): a record that breaks the schema is
	// sealed with its reasons, in the stream `flagged:…`; or `reject`: it is
	// refused, and with it its request.
	OnInvalid string `mapstructure:"on_invalid"`
	// ClockSkew is how far a record's time may lie in the future. Default 5m,
	// 0 turns the check off. The past has no limit.
	ClockSkew time.Duration `mapstructure:"clock_skew"`
	// MaxIDBytes bounds identifiers (record, actor, target, tenant, request,
	// trace). Default 256.
	MaxIDBytes int `mapstructure:"max_id_bytes"`
	// MaxNameBytes bounds names: event name, action, types, display names.
	// Default 256.
	MaxNameBytes int `mapstructure:"max_name_bytes"`
	// Action holds the rules for the naming of actions.
	Action ActionConfig `mapstructure:"action"`

	_ struct{}
}

// ActionConfig holds the rules for the naming of actions. They apply to the
// event name and to `audit.action`.
type ActionConfig struct {
	// Pattern is a regular expression that an event name must match. Default
	// none.
	Pattern string `mapstructure:"pattern"`
	// DenyUUID finds fault with an event name or action that holds a UUID:
	// identifiers belong into attributes. Default false.
	DenyUUID bool `mapstructure:"deny_uuid"`

	_ struct{}
}

// RedactionConfig says what must not be stored.
type RedactionConfig struct {
	// Enabled is true by default.
	Enabled bool `mapstructure:"enabled"`
	// Mode is `mask` (default): a value becomes the mask; or `remove`: the
	// attribute or member goes. A hit inside a longer text is masked in both.
	Mode string `mapstructure:"mode"`
	// Mask stands in place of what was redacted. Default "***".
	Mask string `mapstructure:"mask"`
	// DefaultKeys turns the built-in list of names on. Default true.
	DefaultKeys bool `mapstructure:"default_keys"`
	// Keys are further names. Names are compared word by word: `pin code`
	// matches pinCode, PIN_CODE and user-pin-code.
	Keys []string `mapstructure:"keys"`
	// IgnoreKeys are names that neither the lists nor the patterns match and
	// whose texts no detector reads. A path still matches.
	IgnoreKeys []string `mapstructure:"ignore_keys"`
	// KeyPatterns are regular expressions on names, in any case.
	KeyPatterns []string `mapstructure:"key_patterns"`
	// Paths are exact dotted paths: `metadata.card.holder`, `body.user.name`,
	// `resource.host.ip`, `scope.name`. A number is the index of a slice, `*`
	// is any one name or index.
	Paths []string `mapstructure:"paths"`
	// MaxJSONStringBytes is the longest string that is read as JSON where it
	// looks like it. Longer ones are searched as text. Default 65536.
	MaxJSONStringBytes int `mapstructure:"max_json_string_bytes"`
	// Detectors find secrets by their form, whatever the name beside them.
	Detectors DetectorsConfig `mapstructure:"detectors"`

	_ struct{}
}

// DetectorsConfig switches the detectors. All but email are on by default.
type DetectorsConfig struct {
	JWT         bool `mapstructure:"jwt"`          // JSON Web Tokens
	PEM         bool `mapstructure:"pem"`          // private keys in PEM form
	Card        bool `mapstructure:"card"`         // payment card numbers: issuer prefix, length and Luhn digit
	AWSKey      bool `mapstructure:"aws_key"`      // AWS access key ids and secret access keys
	GitHubToken bool `mapstructure:"github_token"` // GitHub tokens
	VendorToken bool `mapstructure:"vendor_token"` // GitLab, Slack, Stripe, Google, npm and other prefixed tokens
	Bearer      bool `mapstructure:"bearer"`       // Bearer, Basic and Token credentials
	URL         bool `mapstructure:"url"`          // passwords in the user part of a URL
	Assignment  bool `mapstructure:"assignment"`   // name=value, name: value, --name value and <name>value< inside texts
	Email       bool `mapstructure:"email"`        // e-mail addresses, off by default

	_ struct{}
}

// LimitsConfig bounds what is sealed. Sizes are bytes of canonical JSON,
// unless they say otherwise.
type LimitsConfig struct {
	// MaxRecordBytes bounds a record with all that the collector adds to it
	// before it is sealed. Default 65536, at least 4096.
	MaxRecordBytes int `mapstructure:"max_record_bytes"`
	// MaxMetadataBytes bounds `audit.metadata`. Default 32768.
	MaxMetadataBytes int `mapstructure:"max_metadata_bytes"`
	// MaxDiffBytes bounds `audit.diff`. Default 32768.
	MaxDiffBytes int `mapstructure:"max_diff_bytes"`
	// MaxStringBytes bounds each string, in bytes of UTF-8. Default 32768.
	MaxStringBytes int `mapstructure:"max_string_bytes"`
	// MaxDepth bounds how deep maps and slices nest below an attribute, the
	// attribute's own value being 1. Default 32, at most 60.
	MaxDepth int `mapstructure:"max_depth"`
	// MaxAttributes bounds the attributes of a record, and of a resource or
	// scope. Default 256.
	MaxAttributes int `mapstructure:"max_attributes"`
	// Oversize is `truncate` (default): what is too large is cut, largest
	// first, and marked; or `reject`: the record is refused, and with it its
	// request.
	Oversize string `mapstructure:"oversize"`

	_ struct{}
}

func newValidationConfig() ValidationConfig {
	return ValidationConfig{
		OnInvalid:    onInvalidFlag,
		ClockSkew:    5 * time.Minute,
		MaxIDBytes:   256,
		MaxNameBytes: 256,
	}
}

func newRedactionConfig() RedactionConfig {
	return RedactionConfig{
		Enabled:            true,
		Mode:               modeMask,
		Mask:               "***",
		DefaultKeys:        true,
		MaxJSONStringBytes: 65536,
		Detectors: DetectorsConfig{
			JWT: true, PEM: true, Card: true, AWSKey: true, GitHubToken: true,
			VendorToken: true, Bearer: true, URL: true, Assignment: true,
		},
	}
}

func newLimitsConfig() LimitsConfig {
	return LimitsConfig{
		MaxRecordBytes:   65536,
		MaxMetadataBytes: 32768,
		MaxDiffBytes:     32768,
		MaxStringBytes:   32768,
		MaxDepth:         32,
		MaxAttributes:    256,
		Oversize:         oversizeTruncate,
	}
}

// Validate names each key that holds what cannot be.
func (c *ValidationConfig) Validate() error {
	var errs []error
	if c.OnInvalid != onInvalidFlag && c.OnInvalid != onInvalidReject {
		errs = append(errs, fmt.Errorf("`validation::on_invalid` must be flag or reject, found %q", c.OnInvalid))
	}
	if c.ClockSkew < 0 {
		errs = append(errs, fmt.Errorf("`validation::clock_skew` must not be negative, found %s", c.ClockSkew))
	}
	errs = append(errs,
		checkRange("validation::max_id_bytes", c.MaxIDBytes, 36, 4096),
		checkRange("validation::max_name_bytes", c.MaxNameBytes, 16, 4096))
	if _, err := compilePattern("validation::action::pattern", c.Action.Pattern); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Validate names each key that holds what cannot be.
func (c *RedactionConfig) Validate() error {
	var errs []error
	if c.Mode != modeMask && c.Mode != modeRemove {
		errs = append(errs, fmt.Errorf("`redaction::mode` must be mask or remove, found %q", c.Mode))
	}
	if c.Mask == "" || len(c.Mask) > maxMaskBytes || !utf8.ValidString(c.Mask) {
		errs = append(errs, fmt.Errorf("`redaction::mask` must be 1 to %d bytes of UTF-8", maxMaskBytes))
	}
	errs = append(errs, checkRange("redaction::max_json_string_bytes", c.MaxJSONStringBytes, 0, 1<<24))
	for i, pattern := range c.KeyPatterns {
		name := fmt.Sprintf("redaction::key_patterns[%d]", i)
		if pattern == "" {
			errs = append(errs, fmt.Errorf("`%s` must not be empty", name))
		} else if _, err := compilePattern(name, pattern); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, checkNames("redaction::keys", c.Keys), checkNames("redaction::ignore_keys", c.IgnoreKeys))
	for i, path := range c.Paths {
		errs = append(errs, checkPath(i, path))
	}
	return errors.Join(errs...)
}

// Validate names each key that holds what cannot be.
func (c *LimitsConfig) Validate() error {
	const huge = 1 << 24
	errs := []error{
		checkRange("limits::max_record_bytes", c.MaxRecordBytes, minRecordBytes, huge),
		checkRange("limits::max_metadata_bytes", c.MaxMetadataBytes, minPartBytes, huge),
		checkRange("limits::max_diff_bytes", c.MaxDiffBytes, minPartBytes, huge),
		checkRange("limits::max_string_bytes", c.MaxStringBytes, minPartBytes, huge),
		checkRange("limits::max_depth", c.MaxDepth, 1, maxMaxDepth),
		checkRange("limits::max_attributes", c.MaxAttributes, 16, 65536),
	}
	if c.Oversize != oversizeTruncate && c.Oversize != oversizeReject {
		errs = append(errs, fmt.Errorf("`limits::oversize` must be truncate or reject, found %q", c.Oversize))
	}
	return errors.Join(errs...)
}

func checkRange(key string, value, low, high int) error {
	if value < low || value > high {
		return fmt.Errorf("`%s` must be %d to %d, found %d", key, low, high, value)
	}
	return nil
}

func checkNames(key string, names []string) error {
	for i, name := range names {
		if len(splitWords(name)) == 0 {
			return fmt.Errorf("`%s[%d]` must hold a letter or a digit", key, i)
		}
	}
	return nil
}

func checkPath(i int, path string) error {
	if path == "" || slices.Contains(strings.Split(path, "."), "") {
		return fmt.Errorf("`redaction::paths[%d]` must be names with single dots between, found %q", i, path)
	}
	if fieldOf(strings.TrimPrefix(path, "attributes.")).protected() {
		return fmt.Errorf("`redaction::paths[%d]` names %s, which is never masked: remove the entry", i, path)
	}
	return nil
}

// compilePattern compiles a pattern on names, in any case. An empty pattern
// is nil.
func compilePattern(key, pattern string) (*regexp.Regexp, error) {
	if pattern == "" {
		return nil, nil
	}
	if len(pattern) > maxPatternSize {
		return nil, fmt.Errorf("`%s` is longer than %d bytes", key, maxPatternSize)
	}
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("`%s` is no regular expression: %w", key, err)
	}
	return compiled, nil
}
