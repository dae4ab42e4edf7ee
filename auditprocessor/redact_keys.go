// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"hash/maphash"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// rule says why a value was redacted.
type rule uint8

const (
	ruleNone rule = iota
	ruleKey
	rulePattern
	rulePath
	rulePair
	ruleJWT
	rulePEM
	ruleCard
	ruleAWSKey
	ruleGitHubToken
	ruleVendorToken
	ruleBearer
	ruleURL
	ruleAssignment
	ruleEmail
	ruleSignature
	ruleCount
)

var ruleNames = [ruleCount]string{
	"none", "key", "key_pattern", "path", "pair", "jwt", "pem", "card", "aws_key", "github_token",
	"vendor_token", "bearer", "url", "assignment", "email", "signature",
}

// keyInfo is what a name says about the value beside it.
type keyInfo struct {
	rule  rule // ruleKey, rulePattern or ruleNone
	flags keyFlags
}

type keyFlags uint8

const (
	keyNamesPair  keyFlags = 1 << iota // `name` of {name, value}
	keyValuesPair                      // `value` of {name, value}
	keyIgnored                         // of ignore_keys
	keyIsSecret                        // a detector found something in the name itself
	keyLine                            // a header whose value is the rest of the line
	keyAlternates                      // a flat list of names and values in turn
)

// Single words that make a name sensitive.
var secretWords = setOf(`
	password passwords passwd pwd passphrase passphrases passcode passcodes pswd
	otp otps totp hotp token tokens authorization cookie cookies secret secrets
	credential credentials creds jwt jwts bearer csrf xsrf cvv cvc
	apikey apikeys accesskey secretkey privatekey signingkey encryptionkey masterkey authkey
	sharedkey accountkey clientsecret clientkey accesstoken refreshtoken idtoken authtoken sessiontoken
	bearertoken securitytoken csrftoken xsrftoken userpass dbpass setcookie
	jsessionid phpsessid sessid sessionkey mnemonic
`)

// Ends of words that were written in one piece: dbpassword, PGPASSWORD.
var secretEndings = [...]string{
	"password", "passwd", "passphrase", "apikey", "secretkey", "privatekey",
	"accesstoken", "authtoken", "refreshtoken", "clientsecret",
}

// Words that make a name sensitive together. Names are compared without a
// plural s on key and code.
var secretSequences = sequencesOf(
	"api key", "private key", "secret key", "access key", "signing key", "encryption key", "master key",
	"account key", "auth key", "shared key", "client key", "session key", "storage key", "subscription key",
	"functions key", "service key", "ssh key", "host key", "symmetric key", "hmac key",
	"pass word", "pass phrase", "pass code", "pin code", "auth code", "access code", "security code",
	"verification code", "recovery code", "backup code", "mfa code", "fa code", "sms code", "login code",
	"one time code", "card number", "basic auth", "proxy auth", "x auth", "auth header", "session cookie",
	"connection string", "saml response", "saml assertion", "client assertion", "seed phrase", "recovery phrase",
	"j session id", "php sess id",
)

// A sensitive word with one of these at the end of the name describes the
// secret instead of being one: password_changed_at, token_type, secretName.
var descriptions = setOf(`
	count counts used usage limit limits length len size type types kind rate second minute hour day
	expiry expires expired expiration expire exp ttl age in at policy policies status state enabled disabled
	required optional changed updated created rotated deleted rotation valid verified present exists missing
	method mode strength score attempts failures retries provider issuer audience algorithm alg version
	name path arn ref format decision reason result consent domain scope scopes requested endpoint
	metadata bucket budget
`)

// `id` describes a key or a token, but Vault's secret_id is a secret.
const wordID = "id"

// A number of tokens is no secret: max_tokens, prompt_tokens.
var measures = setOf(`
	max min total prompt completion input output num number cached reasoning remaining estimated context
`)

// allowedSequences are sensitive words that form the name of an address.
var allowedSequences = setOf("token url|token uri|authorization url|authorization uri|authorization server", "|")

// The names of the two halves of {name, value}.
var pairNames = setOf(`name|key|header|field|k|header name|param|parameter|attribute|variable|property|path|
	option|setting|column|key name|field name|param name|parameter name|attribute name|variable name|property name|
	option name|setting name|column name`, "|")

var pairValues = setOf(`value|val|v|values|header value|old|new|before|after|from|to|old value|new value|
	previous|current|previous value|current value`, "|")

func setOf(list string, separator ...string) map[string]bool {
	words := strings.Fields(list)
	if len(separator) > 0 {
		words = strings.Split(list, separator[0])
	}
	set := make(map[string]bool, len(words))
	for _, word := range words {
		set[strings.TrimSpace(word)] = true
	}
	return set
}

func sequencesOf(list ...string) [][]string {
	sequences := make([][]string, len(list))
	for i, text := range list {
		sequences[i] = strings.Fields(text)
	}
	return sequences
}

// splitWords splits a name at everything that is no letter or digit, between
// letters and digits, and at the humps of camel case, in lower case:
// x-api-key, apiKey, API_KEY and APIKey2 all hold the words api and key.
func splitWords(name string) []string {
	var words []string
	start := -1
	flush := func(end int) {
		if start >= 0 {
			words = append(words, singular(strings.ToLower(name[start:end])))
			start = -1
		}
	}
	for i, r := range name {
		class := charClass(name[i])
		if class == charOther || r >= utf8.RuneSelf && !isWordRune(r) {
			flush(i)
			continue
		}
		if start >= 0 && isHump(name, start, i, class) {
			flush(i)
		}
		if start < 0 {
			start = i
		}
	}
	flush(len(name))
	return words
}

// isWordRune says whether a sign of another script belongs to a word: no space,
// nothing that is not seen, and not what stands for bytes that were no text.
func isWordRune(r rune) bool {
	return unicode.In(r, unicode.Letter, unicode.Mark, unicode.Number) &&
		!unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

const (
	charOther = iota
	charLower // bytes of other scripts as well
	charUpper
	charDigit
)

func charClass(c byte) int {
	switch {
	case c >= 'a' && c <= 'z', c >= 0x80:
		return charLower
	case c >= 'A' && c <= 'Z':
		return charUpper
	case c >= '0' && c <= '9':
		return charDigit
	}
	return charOther
}

// isHump says whether a new word begins at i, inside a word that began at
// start.
func isHump(name string, start, i, class int) bool {
	previous := charClass(name[i-1])
	if (class == charDigit) != (previous == charDigit) {
		return true
	}
	if class == charUpper && previous == charLower {
		return true
	}
	nextLower := i+1 < len(name) && name[i+1] >= 'a' && name[i+1] <= 'z'
	pluralS := i+2 == len(name) && name[i+1] == 's' // APIKEYs, JWTs
	return class == charUpper && previous == charUpper && nextLower && !pluralS && i > start
}

func singular(word string) string {
	switch word {
	case "keys":
		return "key"
	case "codes":
		return "code"
	}
	return word
}

// isSensitive says whether the built-in lists match a name.
func isSensitive(words []string) bool {
	for i := range words {
		n := secretAt(words, i)
		if n > 0 && !isDescribed(words, i, i+n) {
			return true
		}
	}
	return false
}

// secretAt returns how many words from i on are a sensitive term, 0 for none.
func secretAt(words []string, i int) int {
	if secretWords[words[i]] {
		return 1
	}
	if last := i == len(words)-1; last && (words[i] == "pass" || (words[i] == "pin" && i == 0)) {
		return 1
	}
	for _, ending := range secretEndings {
		if strings.HasSuffix(words[i], ending) {
			return 1
		}
	}
	for _, sequence := range secretSequences {
		if hasSequence(words[i:], sequence) {
			return len(sequence)
		}
	}
	return 0
}

func hasSequence(words, sequence []string) bool {
	return len(words) >= len(sequence) && slices.Equal(words[:len(sequence)], sequence)
}

// isDescribed says whether the sensitive term words[i:end] is only spoken of.
func isDescribed(words []string, i, end int) bool {
	if i > 0 && (words[i] == "tokens" || words[i] == "token") && measures[words[i-1]] {
		return true
	}
	if end == len(words) {
		return false
	}
	last := words[len(words)-1]
	if last == wordID {
		return words[i] != "secret" && words[i] != "secrets"
	}
	return descriptions[last] || (end+1 == len(words) && allowedSequences[words[i]+" "+last])
}

// keyRules classifies names. Immutable.
type keyRules struct {
	defaults  bool
	sequences [][]string
	patterns  []*regexp.Regexp
	ignored   map[string]bool
	secret    func(name string) bool // whether a name is itself a secret
}

func newKeyRules(config *RedactionConfig) (*keyRules, error) {
	k := &keyRules{defaults: config.DefaultKeys, ignored: map[string]bool{}}
	for _, key := range config.Keys {
		k.sequences = append(k.sequences, splitWords(key))
	}
	for _, key := range config.IgnoreKeys {
		k.ignored[strings.Join(splitWords(key), " ")] = true
	}
	for _, pattern := range config.KeyPatterns {
		compiled, err := compilePattern("redaction::key_patterns", "(?i:"+pattern+")")
		if err != nil {
			return nil, err
		}
		k.patterns = append(k.patterns, compiled)
	}
	return k, nil
}

// classify says what a name means. It is the slow path behind a keyCache.
func (k *keyRules) classify(name string) keyInfo {
	info := k.match(name)
	if k.secret != nil && k.secret(name) {
		info.flags |= keyIsSecret
	}
	return info
}

// match is classify without a look for secrets in the name itself.
func (k *keyRules) match(name string) keyInfo {
	words := splitWords(name)
	joined := strings.Join(words, " ")
	info := keyInfo{flags: pairFlags(words, joined)}
	switch {
	case len(k.ignored) > 0 && k.ignored[joined]:
		info.flags |= keyIgnored
	case k.defaults && isSensitive(words), k.holdsSequence(words):
		info.rule = ruleKey
	case slices.ContainsFunc(k.patterns, func(p *regexp.Regexp) bool { return p.MatchString(name) }):
		info.rule = rulePattern
	}
	return info
}

func (k *keyRules) holdsSequence(words []string) bool {
	for _, sequence := range k.sequences {
		for i := range words {
			if hasSequence(words[i:], sequence) {
				return true
			}
		}
	}
	return false
}

func pairFlags(words []string, joined string) (flags keyFlags) {
	if pairNames[joined] {
		flags |= keyNamesPair
	}
	if pairValues[joined] {
		flags |= keyValuesPair
	}
	if joined == "raw headers" || joined == "rawheaders" {
		flags |= keyAlternates
	}
	if slices.Contains(words, "authorization") || slices.Contains(words, "cookie") {
		flags |= keyLine
	}
	return flags
}

const (
	keyCacheSets = 256 // a power of two
	keyCacheWays = 4
	maxCachedKey = 64
	maxKeyRead   = 256 // of a longer name, the end decides
)

// keyCache remembers what names mean: an event's names repeat from event to
// event. It does not grow: hostile names only cost their own time. Not for
// concurrent use.
type keyCache struct {
	rules *keyRules
	seed  maphash.Seed
	sets  [keyCacheSets][keyCacheWays]keySlot
}

type keySlot struct {
	key  string
	info keyInfo
	used bool
}

func newKeyCache(rules *keyRules) *keyCache {
	return &keyCache{rules: rules, seed: maphash.MakeSeed()}
}

// lookup classifies a name. The hash comes along for who needs one.
func (c *keyCache) lookup(key string) (keyInfo, uint64) {
	hash := maphash.String(c.seed, key)
	set := &c.sets[hash%keyCacheSets]
	for i := range set {
		if slot := &set[i]; slot.key == key && slot.used {
			return slot.info, hash
		}
	}
	return c.miss(key, set), hash
}

func (c *keyCache) miss(key string, set *[keyCacheWays]keySlot) keyInfo {
	if len(key) > maxCachedKey {
		info := c.rules.classify(key[max(0, len(key)-maxKeyRead):])
		if len(key) > maxKeyRead && c.rules.secret != nil && c.rules.secret(key) {
			info.flags |= keyIsSecret
		}
		return info
	}
	info := c.rules.classify(key)
	copy(set[1:], set[:])
	set[0] = keySlot{key: strings.Clone(key), info: info, used: true}
	return info
}
