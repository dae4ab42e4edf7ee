// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"math"
	"strconv"
	"strings"
	"sync"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/otelaudit/otelaudit/audit"
	"github.com/otelaudit/otelaudit/audit/canonical"
)

// redactor holds the rules of redaction. Immutable.
type redactor struct {
	enabled   bool
	remove    bool
	mask      string
	quoted    string // the mask as a JSON string
	maxJSON   int
	detectors DetectorsConfig
	triggers  byteClass // classes of bytes without which no detector can hit
	keys      *keyRules
	// long is held while a long text is redacted: what is found in one takes ten
	// times its memory, so there is one at a time.
	long sync.Mutex

	attributePaths, bodyPaths, resourcePaths, scopePaths []string
}

func newRedactor(config *RedactionConfig) (*redactor, error) {
	keys, err := newKeyRules(config)
	if err != nil {
		return nil, err
	}
	r := &redactor{
		enabled:   config.Enabled,
		remove:    config.Mode == modeRemove,
		mask:      config.Mask,
		quoted:    string(canonical.AppendString(nil, config.Mask)),
		maxJSON:   config.MaxJSONStringBytes,
		detectors: config.Detectors,
		triggers:  triggersOf(&config.Detectors),
		keys:      keys,
	}
	if r.enabled {
		keys.secret = r.findsInName
	}
	r.sortPaths(config.Paths)
	return r, nil
}

// findsInName says whether a detector finds something in the name of a member.
func (r *redactor) findsInName(name string) bool {
	if looksLikeJSON(name) {
		_, hit := newWalker(r).search.masked(name)
		return hit
	}
	return newSearch(r, nil).finds(name)
}

// sortPaths tells the paths by where they begin. Names of attributes hold dots
// themselves, so a path is compared from its start, name by name.
func (r *redactor) sortPaths(paths []string) {
	for _, path := range paths {
		if rest, ok := strings.CutPrefix(path, "resource."); ok {
			r.resourcePaths = append(r.resourcePaths, strings.TrimPrefix(rest, "attributes."))
		}
		if rest, ok := strings.CutPrefix(path, "scope."); ok {
			r.scopePaths = append(r.scopePaths, strings.TrimPrefix(rest, "attributes."))
		}
		if path == "body" || strings.HasPrefix(path, "body.") {
			r.bodyPaths = append(r.bodyPaths, path)
		}
		r.attributePaths = append(r.attributePaths, strings.TrimPrefix(path, "attributes."))
		if strings.HasPrefix(path, "metadata.") || strings.HasPrefix(path, "diff.") || path == "metadata" || path == "diff" {
			r.attributePaths = append(r.attributePaths, "audit."+path)
		}
	}
}

// extent is what a walk measured: whether repair or the limits have work.
type extent struct {
	deepest    int // levels below the attributes
	longest    int // bytes of the longest string or name
	attributes int // of the widest attribute map
	duplicates bool
	tooDeep    bool
}

// walker redacts one record, resource or scope after the other and measures
// them on the way. Not for concurrent use.
type walker struct {
	redactor *redactor
	cache    *keyCache
	search   *search
	marks    *marks
	extent   extent
	at       location
	paths    []string // configured paths that the way so far is the start of
	depth    int
	seen     map[string]struct{} // names of a wide map
}

func newWalker(r *redactor) *walker {
	w := &walker{redactor: r, cache: newKeyCache(r.keys)}
	w.search = newSearch(r, w)
	return w
}

// record redacts a record's attributes, body and severity text.
func (w *walker) record(record plog.LogRecord, m *marks) {
	w.begin(m, "", w.redactor.attributePaths)
	w.depth = -1 // the attributes themselves are level 0
	w.extent.attributes = max(w.extent.attributes, record.Attributes().Len())
	w.members(record.Attributes(), true)
	if record.Body().Type() != pcommon.ValueTypeEmpty {
		w.begin(m, "body", w.redactor.bodyPaths)
		w.body(record.Body())
	}
	if text := record.SeverityText(); text != "" {
		w.begin(m, "severity.text", nil)
		if out, hit := w.text(text); hit {
			record.SetSeverityText(out)
		}
	}
	w.extent.longest = max(w.extent.longest, len(record.EventName()))
}

func (w *walker) body(body pcommon.Value) {
	if len(w.paths) > 0 && w.matches(w.paths, "body") {
		w.maskValue(body, rulePath)
		return
	}
	w.paths = w.under(w.paths, "body")
	w.value(body, keyInfo{})
}

// resource redacts a resource's attributes and its schema URL, which it
// returns.
func (w *walker) resource(resource pcommon.Resource, schemaURL string, m *marks) string {
	w.begin(m, "resource", w.redactor.resourcePaths)
	w.depth = -1
	w.extent.attributes = max(w.extent.attributes, resource.Attributes().Len())
	w.members(resource.Attributes(), false)
	return w.single(m, "resource.schema_url", schemaURL)
}

// scope redacts an instrumentation scope and its schema URL, which it returns.
func (w *walker) scope(scope pcommon.InstrumentationScope, schemaURL string, m *marks) string {
	w.begin(m, "scope", w.redactor.scopePaths)
	w.depth = -1
	w.extent.attributes = max(w.extent.attributes, scope.Attributes().Len())
	w.members(scope.Attributes(), false)
	if scope.Name() != "" {
		scope.SetName(w.single(m, "scope.name", scope.Name()))
	}
	if scope.Version() != "" {
		scope.SetVersion(w.single(m, "scope.version", scope.Version()))
	}
	return w.single(m, "scope.schema_url", schemaURL)
}

// single redacts a string that is no attribute.
func (w *walker) single(m *marks, name, text string) string {
	if text == "" {
		return text
	}
	w.begin(m, name, nil)
	if w.redactor.enabled && w.isConfigured(name) && text != w.redactor.mask {
		m.redact(name, rulePath)
		return w.redactor.mask
	}
	out, _ := w.text(text)
	return out
}

func (w *walker) isConfigured(name string) bool {
	for _, path := range w.redactor.scopePaths {
		if "scope."+path == name {
			return true
		}
	}
	return false
}

func (w *walker) begin(m *marks, root string, paths []string) {
	w.marks = m
	w.at.start(root)
	w.paths = paths
	w.depth = 0
}

// members redacts the members of a map: top is true for the attributes of a
// record, some of which are protected.
func (w *walker) members(m pcommon.Map, top bool) {
	w.depth++
	defer func() { w.depth-- }()
	if m.Len() == 0 {
		return
	}
	if !w.enter() {
		return
	}
	state := mapState{top: top, paths: w.paths}
	if wide := m.Len() > wideMap; wide {
		w.extent.duplicates = w.extent.duplicates || w.hasDuplicates(m)
		state.checked = true
	}
	m.RemoveIf(func(key string, value pcommon.Value) bool { return w.member(m, &state, key, value) })
	w.paths = state.paths
	if state.pairSecret && state.pairValues {
		w.maskPairs(m)
	}
	if state.secretKey {
		w.renameKeys(m)
	}
}

// wideMap is how many members a map has before repeated names are found with
// memory instead of comparisons.
const wideMap = 64

// mapState is what a walk knows about the map that it is in.
type mapState struct {
	seen       [4]uint64 // a filter on the hashes of names
	paths      []string
	top        bool
	checked    bool // for repeated names
	pairSecret bool // `name` holds a sensitive name
	pairValues bool // there is a `value`
	secretKey  bool // a name holds a secret
}

// enter counts a level and says whether to go on: what is deeper than
// canonical bytes can be is cut by repair, and walked then.
func (w *walker) enter() bool {
	w.extent.deepest = max(w.extent.deepest, w.depth)
	if w.depth > canonical.MaxDepth {
		w.extent.tooDeep = true
		return false
	}
	return true
}

// member redacts one member and says whether it is to be removed.
func (w *walker) member(m pcommon.Map, state *mapState, key string, value pcommon.Value) bool {
	info, hash := w.cache.lookup(key)
	if !state.checked && state.isRepeated(m, key, hash) {
		w.extent.duplicates = true
	}
	if len(key) > w.extent.longest {
		w.extent.longest = len(key)
	}
	if !w.redactor.enabled {
		info = keyInfo{flags: keyIgnored}
	}
	if state.top && (strings.HasPrefix(key, audit.PrefixCollector) || isShielded(key, value)) {
		w.extent.longest = max(w.extent.longest, len(value.Str()))
		return false
	}
	state.note(w, info, value)
	w.at.push(key)
	if info.flags&keyIsSecret != 0 {
		w.at.rename(w.maskedKey(key))
	}
	removed := w.memberValue(state, key, info, value)
	w.at.pop()
	return removed
}

func (w *walker) memberValue(state *mapState, key string, info keyInfo, value pcommon.Value) bool {
	by := info.rule
	if len(state.paths) > 0 && w.redactor.enabled {
		if w.matches(state.paths, key) {
			by = rulePath
		}
		w.paths = w.under(state.paths, key)
	}
	if by != ruleNone {
		return w.maskValue(value, by) && w.redactor.remove
	}
	return w.value(value, info)
}

// isShielded says whether a record's attribute is left alone. A protected
// name shields a single value only: a map below it is walked.
func isShielded(key string, value pcommon.Value) bool {
	if !fieldOf(key).protected() {
		return false
	}
	switch value.Type() {
	case pcommon.ValueTypeMap, pcommon.ValueTypeSlice, pcommon.ValueTypeBytes:
		return false
	default:
		return true
	}
}

func (s *mapState) isRepeated(m pcommon.Map, key string, hash uint64) bool {
	bit := hash >> 56
	word, flag := &s.seen[bit>>6], uint64(1)<<(bit&63)
	if *word&flag == 0 {
		*word |= flag
		return false
	}
	count := 0
	for other := range m.All() {
		if other == key {
			count++
		}
	}
	return count > 1
}

func (w *walker) hasDuplicates(m pcommon.Map) bool {
	if w.seen == nil {
		w.seen = make(map[string]struct{}, m.Len())
	}
	defer w.forget()
	for key := range m.All() {
		if _, found := w.seen[key]; found {
			return true
		}
		w.seen[key] = struct{}{}
	}
	return false
}

// forget keeps the memory of a map of ordinary width only.
func (w *walker) forget() {
	if len(w.seen) > 64*wideMap {
		w.seen = nil
		return
	}
	clear(w.seen)
}

func (s *mapState) note(w *walker, info keyInfo, value pcommon.Value) {
	if info.flags&keyIsSecret != 0 {
		s.secretKey = true
	}
	if info.flags&keyValuesPair != 0 {
		s.pairValues = true
	}
	if info.flags&keyNamesPair != 0 && value.Type() == pcommon.ValueTypeStr {
		s.pairSecret = s.pairSecret || w.isSecretName(value.Str())
	}
}

// isSecretName says whether a text is a name that makes its value sensitive.
func (w *walker) isSecretName(text string) bool {
	if text == "" || len(text) > maxKeyRead {
		return false
	}
	info, _ := w.cache.lookup(text)
	return info.rule != ruleNone
}

// maskPairs masks the values of {name: Authorization, value: …}.
func (w *walker) maskPairs(m pcommon.Map) {
	m.RemoveIf(func(key string, value pcommon.Value) bool {
		info, _ := w.cache.lookup(key)
		if info.flags&keyValuesPair == 0 {
			return false
		}
		w.at.push(key)
		defer w.at.pop()
		return w.maskValue(value, rulePair) && w.redactor.remove
	})
}

// maskValue puts the mask in place of a value and says whether there was
// something to mask.
func (w *walker) maskValue(value pcommon.Value, by rule) bool {
	switch value.Type() {
	case pcommon.ValueTypeEmpty:
		return false
	case pcommon.ValueTypeStr:
		if text := value.Str(); text == "" || text == w.redactor.mask {
			return false
		}
	}
	value.SetStr(w.redactor.mask)
	w.marks.redact(w.at.String(), by)
	return true
}

// value redacts inside a value whose name is harmless, and says whether the
// whole of it is to be removed.
func (w *walker) value(value pcommon.Value, info keyInfo) bool {
	switch value.Type() {
	case pcommon.ValueTypeStr:
		return w.stringValue(value, info)
	case pcommon.ValueTypeMap:
		paths := w.paths
		w.members(value.Map(), false)
		w.paths = paths
	case pcommon.ValueTypeSlice:
		w.elements(value.Slice(), info)
	case pcommon.ValueTypeBytes:
		w.bytesValue(value, info)
	case pcommon.ValueTypeInt:
		return w.number(value, value.Int(), info)
	case pcommon.ValueTypeDouble:
		if d := value.Double(); d == math.Trunc(d) && math.Abs(d) < 1<<53 {
			return w.number(value, int64(d), info)
		}
	}
	return false
}

func (w *walker) stringValue(value pcommon.Value, info keyInfo) bool {
	text := value.Str()
	if len(text) > w.extent.longest {
		w.extent.longest = len(text)
	}
	if info.flags&keyIgnored != 0 {
		return false
	}
	out, hit := w.text(text)
	if !hit {
		return false
	}
	value.SetStr(out)
	return w.redactor.remove && out == w.redactor.mask
}

func (w *walker) bytesValue(value pcommon.Value, info keyInfo) {
	length := value.Bytes().Len()
	w.extent.longest = max(w.extent.longest, length)
	if info.flags&keyIgnored != 0 || length < minSecret {
		return
	}
	if out, hit := w.text(string(value.Bytes().AsRaw())); hit {
		value.SetEmptyBytes().FromRaw([]byte(out)) // new memory: copies of pdata share the old
	}
}

// number finds a card number that was sent as one.
func (w *walker) number(value pcommon.Value, n int64, info keyInfo) bool {
	if info.flags&keyIgnored != 0 || n < 1e13 || n >= 1e16 || !w.redactor.detectors.Card {
		return false
	}
	var digits [20]byte
	if !isCard(strconv.AppendInt(digits[:0], n, 10)) {
		return false
	}
	return w.maskValue(value, ruleCard) && w.redactor.remove
}

// text redacts what detectors find in a text.
func (w *walker) text(text string) (string, bool) {
	if !w.redactor.enabled {
		return text, false
	}
	if len(text) > longText {
		w.redactor.long.Lock()
		defer w.redactor.long.Unlock()
		defer w.search.forget()
	}
	return w.search.redact(text)
}

// longText is the length from which on texts take turns.
const longText = 1 << 20

// elements redacts the elements of a slice, and what only the order of
// elements makes a secret: ["Authorization", "…"] and ["--password", "…"].
func (w *walker) elements(s pcommon.Slice, info keyInfo) {
	w.depth++
	defer func() { w.depth-- }()
	if s.Len() == 0 || !w.enter() {
		return
	}
	paths := w.paths
	secretNext := false
	for i := range s.Len() {
		w.at.pushIndex(i)
		w.element(s.At(i), i, paths, info, secretNext)
		secretNext = w.namesNext(s, i, info)
		w.at.pop()
	}
	w.paths = paths
}

func (w *walker) element(value pcommon.Value, i int, paths []string, info keyInfo, secret bool) {
	if len(paths) > 0 && w.redactor.enabled {
		index := strconv.Itoa(i)
		if w.matches(paths, index) {
			w.maskValue(value, rulePath)
			return
		}
		w.paths = w.under(paths, index)
	}
	if secret {
		w.maskValue(value, rulePair)
		return
	}
	if value.Type() == pcommon.ValueTypeSlice {
		info.flags |= keyNamesPair // a list of lists may be a list of pairs
	} else {
		info.flags &^= keyAlternates | keyNamesPair
	}
	w.value(value, info)
}

// namesNext says whether element i names element i+1 as sensitive.
func (w *walker) namesNext(s pcommon.Slice, i int, info keyInfo) bool {
	if !w.redactor.enabled || i+1 == s.Len() || s.At(i).Type() != pcommon.ValueTypeStr {
		return false
	}
	text := s.At(i).Str()
	switch {
	case len(text) > 2 && text[0] == '-' && !strings.ContainsAny(text, "= "):
		return w.isSecretName(text)
	case info.flags&keyAlternates != 0, info.flags&keyNamesPair != 0 && s.Len() == 2:
		return i%2 == 0 && w.isSecretName(text)
	}
	return false
}

// maskedKey is a name with the secrets in it masked.
func (w *walker) maskedKey(key string) string {
	out, hit := w.search.masked(key)
	if !hit {
		return w.redactor.mask
	}
	return out
}

// renameKeys masks the names that hold secrets.
func (w *walker) renameKeys(m pcommon.Map) {
	renameMembers(m, &w.at, w.marks, renaming{
		bad: func(key string) bool {
			info, _ := w.cache.lookup(key)
			return info.flags&keyIsSecret != 0
		},
		name: w.maskedKey,
		mark: func(path string) { w.marks.redact(path, ruleKey) },
	})
}

// matches says whether a configured path ends with this name.
func (w *walker) matches(paths []string, key string) bool {
	for _, path := range paths {
		if path == key || path == "*" {
			return true
		}
	}
	return false
}

// under returns what follows this name in the configured paths.
func (w *walker) under(paths []string, key string) []string {
	var below []string
	for _, path := range paths {
		if rest, ok := strings.CutPrefix(path, key); ok && strings.HasPrefix(rest, ".") {
			below = append(below, rest[1:])
		}
		if rest, ok := strings.CutPrefix(path, "*."); ok {
			below = append(below, rest)
		}
	}
	return below
}
