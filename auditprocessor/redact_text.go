// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"cmp"
	"encoding/base64"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// minSecret is the length of the shortest text that is searched.
const minSecret = 5

// byteClass says which detectors a byte may belong to. One pass over a text
// collects its classes; most texts have none that matters.
type byteClass uint16

const (
	classDigit byteClass = 1 << iota
	classA               // AKIA
	classJ               // eyJ
	classG               // -----BEGIN
	classSpace
	classColon
	classEqual
	classGreater
	classAt
	classDash
	classQuote
	classOpen // of JSON
)

var byteClasses = func() (table [256]byteClass) {
	for c := '0'; c <= '9'; c++ {
		table[c] = classDigit
	}
	table['A'], table['J'], table['G'] = classA, classJ, classG
	table[' '], table['\t'], table[':'], table['='] = classSpace, classSpace, classColon, classEqual
	table['"'], table['{'], table['['] = classQuote, classOpen, classOpen
	table['>'], table['@'], table['-'] = classGreater, classAt, classDash
	return table
}()

func triggersOf(d *DetectorsConfig) (classes byteClass) {
	add := func(on bool, c byteClass) {
		if on {
			classes |= c
		}
	}
	add(d.JWT, classJ)
	add(d.PEM, classG)
	add(d.Card, classDigit)
	add(d.AWSKey || d.GitHubToken || d.VendorToken, classDigit|classA)
	add(d.Bearer, classSpace)
	add(d.URL || d.Email, classAt)
	add(d.Assignment, classColon|classEqual|classGreater|classDash)
	return classes
}

// hit is a part of a text to be replaced.
type hit struct {
	start, end int
	text       string
	rule       rule // ruleNone: counted already
}

// search finds secrets in texts. walker is nil inside the classification of
// names. Not for concurrent use.
type search struct {
	r      *redactor
	walker *walker
	hits   []hit // a stack: texts inside texts
	nested int   // JSON inside JSON
}

func newSearch(r *redactor, w *walker) *search { return &search{r: r, walker: w} }

// redact returns text with what the detectors found masked.
func (s *search) redact(text string) (string, bool) {
	if len(text) < minSecret {
		return text, false
	}
	base := len(s.hits)
	s.collect(text)
	if len(s.hits) == base {
		return text, false
	}
	out := s.render(text, base)
	s.hits = s.hits[:base]
	return out, out != text
}

// forget gives back what a long text has made of the stack.
func (s *search) forget() { s.hits = nil }

// masked is redact without marks, for names.
func (s *search) masked(text string) (string, bool) {
	w := s.walker
	outer, paths := w.marks, w.paths
	w.marks, w.paths = &marks{}, nil
	out, hit := s.redact(text)
	w.marks, w.paths = outer, paths
	return out, hit
}

// finds says whether there is anything to mask in text.
func (s *search) finds(text string) bool {
	s.hits = s.hits[:0]
	s.detect(text, classesOf(text)&s.r.triggers)
	return len(s.hits) > 0
}

func classesOf(text string) (classes byteClass) {
	for i := range len(text) {
		classes |= byteClasses[text[i]]
	}
	return classes
}

func (s *search) collect(text string) {
	classes := classesOf(text)
	if classes&classQuote != 0 && len(text) <= s.r.maxJSON && s.walker != nil && s.nested < maxNestedJSON {
		s.nested++
		whole := looksLikeJSON(text) && s.json(text)
		if !whole && classes&classOpen != 0 {
			s.embeddedJSON(text)
		}
		s.nested--
		if whole {
			return
		}
	}
	if classes &= s.r.triggers; classes != 0 {
		s.detect(text, classes)
	}
}

// detect runs the detectors whose bytes are in text.
func (s *search) detect(text string, classes byteClass) {
	d := &s.r.detectors
	if classes&classG != 0 && d.PEM {
		s.findPEM(text)
	}
	if classes&classJ != 0 && d.JWT {
		s.findJWT(text)
	}
	if classes&(classDigit|classA) != 0 && len(text) >= minCard && !hasUUIDShape(text) {
		s.findTokens(text, classes)
	}
	if classes&classSpace != 0 && d.Bearer {
		s.findCredentials(text)
	}
	if classes&classAt != 0 && d.URL {
		s.findUserInfo(text)
	}
	if classes&classAt != 0 && d.Email {
		s.findEmail(text)
	}
	if d.Assignment {
		s.findAssignments(text, classes)
	}
}

func (s *search) findTokens(text string, classes byteClass) {
	d := &s.r.detectors
	if d.Card && classes&classDigit != 0 {
		s.findCard(text)
	}
	if len(text) >= minToken && (d.AWSKey || d.GitHubToken || d.VendorToken) {
		s.findPrefixed(text)
	}
	if len(text) >= awsSecretLength && d.AWSKey && classes&classDigit != 0 {
		s.findAWSSecret(text)
	}
}

func (s *search) add(start, end int, by rule) {
	s.hits = append(s.hits, hit{start, end, s.r.mask, by})
}

// render writes text with its hits replaced, and counts them. Hits that
// overlap become one.
func (s *search) render(text string, base int) string {
	hits := s.hits[base:]
	slices.SortStableFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end))
	})
	var out strings.Builder
	out.Grow(len(text))
	done := 0
	for i := range hits {
		h := &hits[i]
		if i > 0 && h.start < done {
			done = max(done, h.end)
			continue
		}
		out.WriteString(text[done:h.start])
		out.WriteString(h.text)
		done = h.end
		if h.rule != ruleNone && text[h.start:h.end] != s.r.mask {
			s.walker.marks.redact(s.walker.at.String(), h.rule)
		}
	}
	out.WriteString(text[done:])
	return out.String()
}

// isSecretName says whether a name makes the value beside it sensitive.
func (s *search) isSecretName(name string) (keyInfo, bool) {
	var info keyInfo
	if s.walker != nil {
		info, _ = s.walker.cache.lookup(name)
	} else {
		info = s.r.keys.match(name)
	}
	return info, info.rule != ruleNone
}

// findPEM finds private keys, from the line BEGIN to the line END, or to the
// end of a text that was cut off.
func (s *search) findPEM(text string) {
	const begin, end, dashes = "-----BEGIN ", "-----END ", "-----"
	for from := 0; ; {
		start := strings.Index(text[from:], begin)
		if start < 0 {
			return
		}
		start += from
		from = start + len(begin)
		label, rest, ok := strings.Cut(text[from:], dashes)
		if !ok || len(label) > 64 || !strings.Contains(label, "PRIVATE KEY") {
			continue
		}
		stop := len(text)
		if i := strings.Index(rest, end); i >= 0 {
			after := len(text) - len(rest) + i + len(end)
			if j := strings.Index(text[after:], dashes); j >= 0 {
				stop = after + j + len(dashes)
			}
		}
		s.add(start, stop, rulePEM)
		from = stop
	}
}

// findJWT finds JSON Web Tokens, signed or encrypted: base64url parts with
// dots between, the first of which begins with {".
func (s *search) findJWT(text string) {
	for from := 0; ; {
		start := strings.Index(text[from:], "eyJ")
		if start < 0 {
			return
		}
		start += from
		end := runEnd(text, start, isBase64URL)
		from = end
		if end-start < 10 || end == len(text) || text[end] != '.' {
			continue
		}
		payload := runEnd(text, end+1, isBase64URL)
		if payload-end < 6 {
			continue
		}
		end = payload
		for range 3 {
			if end < len(text) && text[end] == '.' {
				end = runEnd(text, end+1, isBase64URL)
			}
		}
		s.add(start, end, ruleJWT)
		from = end
	}
}

func runEnd(text string, i int, in func(byte) bool) int {
	for i < len(text) && in(text[i]) {
		i++
	}
	return i
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || isDigit(c)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isBase64URL(c byte) bool { return isAlphanumeric(c) || c == '_' || c == '-' }

func isBase64(c byte) bool { return isAlphanumeric(c) || c == '+' || c == '/' }

// hasUUIDShape says whether text has the length and dashes of a UUID: no token
// or card number fits between them.
func hasUUIDShape(text string) bool {
	return len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' && isUUID(text)
}

const (
	minCard = 13
	maxCard = 19
)

// findCard finds payment card numbers: digits that stand alone, with single
// spaces or dashes between them or none.
func (s *search) findCard(text string) {
	for i := 0; i+minCard <= len(text); i++ {
		if !isDigit(text[i]) || (i > 0 && isAlphanumeric(text[i-1])) {
			continue
		}
		end, digits, n := cardRun(text, i)
		if n >= minCard && n <= maxCard && isCard(digits[:n]) && !isFraction(text, i) {
			s.add(i, end, ruleCard)
		}
		i = end - 1
	}
}

// cardRun reads digits with one kind of separator. n is above maxCard where
// there are too many, 0 where the run ends inside a word.
func cardRun(text string, i int) (end int, digits [maxCard + 1]byte, n int) {
	var separator byte
	for i < len(text) {
		c := text[i]
		switch {
		case isDigit(c):
			if n <= maxCard {
				digits[n] = c
				n++
				n = min(n, maxCard+1)
			}
			if n > maxCard {
				return runEnd(text, i, isDigit), digits, n
			}
		case (c == ' ' || c == '-') && (separator == 0 || separator == c) && i+1 < len(text) && isDigit(text[i+1]):
			separator = c
		default:
			if isAlphanumeric(c) || c == '_' {
				return i, digits, 0
			}
			return i, digits, n
		}
		i++
	}
	return i, digits, n
}

// isFraction says whether the digits at i follow a decimal point.
func isFraction(text string, i int) bool {
	return i >= 2 && text[i-1] == '.' && isDigit(text[i-2])
}

// isCard says whether digits have the prefix and length of an issuer and the
// check digit of Luhn.
func isCard(digits []byte) bool {
	if !hasIssuer(digits) {
		return false
	}
	sum := 0
	for i := range digits {
		d := int(digits[len(digits)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

func hasIssuer(digits []byte) bool {
	if len(digits) < minCard {
		return false
	}
	prefix := 0
	for _, d := range digits[:4] {
		prefix = prefix*10 + int(d-'0')
	}
	two := prefix / 100
	switch n := len(digits); {
	case two/10 == 4: // Visa
		return n == 13 || n == 16 || n == 19
	case two == 34 || two == 37: // American Express
		return n == 15
	case two >= 51 && two <= 55, prefix >= 2221 && prefix <= 2720: // Mastercard
		return n == 16
	case two == 36, two == 38, two == 39, prefix >= 3000 && prefix <= 3059: // Diners Club
		return n == 14 || n == 16
	case prefix >= 3528 && prefix <= 3589, prefix == 6011, two == 65, prefix/10 >= 644 && prefix/10 <= 649, two == 62:
		return n >= 16 // JCB, Discover, UnionPay
	case two == 50, two >= 56 && two <= 58, two == 60, two == 63, two == 67: // Maestro and others
		return n == 16 || n == 18 || n == 19
	}
	return false
}

const (
	minToken        = 20
	awsSecretLength = 40
)

// findPrefixed finds tokens that begin with their maker's mark.
func (s *search) findPrefixed(text string) {
	for i := 0; i+minToken <= len(text); {
		if !isBase64URL(text[i]) {
			i++
			continue
		}
		end := runEnd(text, i, isBase64URL)
		if end-i >= minToken {
			s.findInRun(text, i, end)
		}
		i = end
	}
}

// findInRun looks at the start of a run and behind each of its dashes.
func (s *search) findInRun(text string, start, end int) {
	for i := start; i+minToken <= end; i++ {
		if i > start && text[i-1] != '_' && text[i-1] != '-' {
			continue
		}
		if stop, by := s.prefixed(text[:end], text, i); by != ruleNone {
			s.add(i, stop, by)
			i = stop
		}
	}
}

// prefixed says where the token at i ends, if there is one. run is text up to
// the end of the run.
func (s *search) prefixed(run, text string, i int) (int, rule) {
	d := &s.r.detectors
	rest := run[i:]
	switch rest[0] {
	case 'A':
		if d.AWSKey && isAWSKeyID(rest) {
			return i + awsKeyIDLength, ruleAWSKey
		}
	case 'g':
		if d.GitHubToken && isGitHub(rest) {
			return len(run), ruleGitHubToken
		}
	}
	if d.VendorToken && isVendor(rest) {
		return tokenEnd(text, len(run)), ruleVendorToken
	}
	return 0, ruleNone
}

// tokenEnd goes on where a token has dots in it.
func tokenEnd(text string, end int) int {
	for end+1 < len(text) && text[end] == '.' && isBase64URL(text[end+1]) {
		end = runEnd(text, end+1, isBase64URL)
	}
	return end
}

const awsKeyIDLength = 20

func isAWSKeyID(rest string) bool {
	switch rest[:4] {
	case "AKIA", "ASIA", "ABIA", "ACCA":
	default:
		return false
	}
	for i := 4; i < awsKeyIDLength; i++ {
		if c := rest[i]; (c < 'A' || c > 'Z') && !isDigit(c) {
			return false
		}
	}
	return len(rest) == awsKeyIDLength || !isAlphanumeric(rest[awsKeyIDLength])
}

func isGitHub(rest string) bool {
	if strings.HasPrefix(rest, "github_pat_") {
		return len(rest) >= 33
	}
	return rest[1] == 'h' && rest[3] == '_' && strings.IndexByte("pousr", rest[2]) >= 0 && len(rest) >= 40
}

var vendorPrefixes = [...]string{
	"glpat-", "gldt-", "glrt-", "xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe-", "xapp-",
	"sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_", "AIza", "GOCSPX-", "npm_", "pypi-",
	"shpat_", "shpss_", "dop_v1_", "hf_", "sk-ant-", "sk-proj-", "sk-", "hvs", "hvb", "dapi", "SG",
}

// isVendor wants a digit behind the mark: words with dashes have none.
func isVendor(rest string) bool {
	for _, prefix := range vendorPrefixes {
		if rest[0] != prefix[0] || !strings.HasPrefix(rest, prefix) {
			continue
		}
		switch prefix {
		case "dapi":
			return len(rest) >= 36 && runEnd(rest, 4, isHex) >= 36
		case "AIza":
			return len(rest) >= 39
		}
		return strings.ContainsAny(rest[len(prefix):], "0123456789")
	}
	return false
}

// findAWSSecret finds secret access keys: forty characters of base64 as mixed
// as random ones are.
func (s *search) findAWSSecret(text string) {
	for i := 0; i+awsSecretLength <= len(text); {
		if !isBase64(text[i]) {
			i++
			continue
		}
		end := runEnd(text, i, isBase64)
		if end-i == awsSecretLength && (end == len(text) || !isTokenByte(text[end])) &&
			(i == 0 || !isTokenByte(text[i-1]) || text[i-1] == '=') && isMixed(text[i:end]) {
			s.add(i, end, ruleAWSKey)
		}
		i = end
	}
}

func isTokenByte(c byte) bool {
	return isBase64(c) || c == '_' || c == '-' || c == '=' || c == '.' || c == '~'
}

// isMixed says whether s has lower and upper case and digits, and the entropy
// of random base64.
func isMixed(s string) bool {
	var counts [128]int
	var lower, upper, digit bool
	for i := range len(s) {
		c := s[i]
		counts[c&0x7f]++
		lower = lower || c >= 'a' && c <= 'z'
		upper = upper || c >= 'A' && c <= 'Z'
		digit = digit || isDigit(c)
	}
	if !lower || !upper || !digit {
		return false
	}
	const randomEnough = 4.3 // bits a character; paths and names stay below
	entropy := 0.0
	for i := range counts { // without a copy of all
		if n := counts[i]; n > 0 {
			p := float64(n) / float64(len(s))
			entropy -= p * math.Log2(p)
		}
	}
	return entropy >= randomEnough
}

// schemes are the words in front of credentials in headers.
var schemes = [...]string{"bearer", "basic", "token", "apikey", "digest", "negotiate"}

// findCredentials finds Bearer, Basic and Token credentials.
func (s *search) findCredentials(text string) {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c != ' ' && c != '\t' {
			continue
		}
		scheme := schemeBefore(text, i)
		for i < len(text) && (text[i] == ' ' || text[i] == '\t') {
			i++
		}
		if scheme == "" {
			continue
		}
		end := runEnd(text, i, isTokenByte)
		if isCredential(scheme, text[i:end]) {
			s.add(i, end, ruleBearer)
		}
	}
}

// schemeBefore returns the scheme that ends at i, in lower case.
func schemeBefore(text string, i int) string {
	if i < 5 {
		return ""
	}
	switch text[i-1] | 0x20 {
	case 'r', 'c', 'n', 'y', 't', 'e':
	default:
		return ""
	}
	for _, scheme := range schemes {
		start := i - len(scheme)
		if start >= 0 && strings.EqualFold(text[start:i], scheme) && (start == 0 || !isAlphanumeric(text[start-1])) {
			return scheme
		}
	}
	return ""
}

// isCredential tells a credential from the next word of a sentence.
func isCredential(scheme, token string) bool {
	switch scheme {
	case "basic":
		decoded, err := base64.StdEncoding.DecodeString(token)
		if err != nil {
			decoded, err = base64.RawStdEncoding.DecodeString(token)
		}
		return err == nil && utf8.Valid(decoded) && strings.Contains(string(decoded), ":")
	case "bearer":
		return len(token) >= 24 || len(token) >= 6 && strings.ContainsAny(token, "0123456789_")
	case "digest":
		return false // its parts are assignments
	default:
		return len(token) >= 16 && strings.ContainsAny(token, "0123456789")
	}
}

// findUserInfo finds the password in scheme://user:password@host, and a token
// in place of the user.
func (s *search) findUserInfo(text string) {
	for from := 0; ; {
		i := strings.Index(text[from:], "://")
		if i < 0 {
			return
		}
		start := from + i + len("://")
		end := runEnd(text, start, isAuthority)
		at := strings.LastIndexByte(text[start:end], '@')
		from = end
		if at < 0 {
			continue
		}
		user, password, found := strings.Cut(text[start:start+at], ":")
		switch {
		case found && password != "":
			s.add(start+len(user)+1, start+at, ruleURL)
		case !found && len(user) >= minToken && strings.ContainsAny(user, "0123456789"):
			s.add(start, start+at, ruleURL)
		}
	}
}

func isAuthority(c byte) bool {
	return c > ' ' && c != '/' && c != '?' && c != '#' && c != '"' && c != '<' && c != '>' && c != '\\'
}

func (s *search) findEmail(text string) {
	for i := 1; i < len(text); i++ {
		if text[i] != '@' {
			continue
		}
		start := i
		for start > 0 && isLocalPart(text[start-1]) {
			start--
		}
		end := runEnd(text, i+1, isDomain)
		for end > i+1 && !isAlphanumeric(text[end-1]) {
			end--
		}
		if start < i && strings.IndexByte(text[i+1:end], '.') > 0 {
			s.add(start, end, ruleEmail)
		}
	}
}

func isLocalPart(c byte) bool {
	return isAlphanumeric(c) || c >= 0x80 || strings.IndexByte(".!#$%&'*+-/=?^_`{|}~", c) >= 0
}

func isDomain(c byte) bool { return isAlphanumeric(c) || c == '.' || c == '-' || c >= 0x80 }
