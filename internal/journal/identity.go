// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/otelaudit/otelaudit/audit/chain"
)

const (
	identityFile = "id"
	cursorFile   = "cursor"
)

// identity is the name of the log. It is made with the directory and stays.
type identity struct {
	Instance string `json:"instance"`
	Journal  string `json:"journal"`
	// Secret keys the hashes of record ids and contents, in hex: whoever reads
	// the journal shall not learn from them what a masked value was.
	Secret string `json:"secret"`
}

// secretSize is the length of the secret in bytes.
const secretSize = 32

func (id *identity) secret() ([]byte, error) {
	secret, err := hex.DecodeString(id.Secret)
	if err != nil || len(secret) != secretSize {
		return nil, fmt.Errorf("`secret` is not %d hex digits", 2*secretSize)
	}
	return secret, nil
}

// loadIdentity reads the identity of the directory, or makes one up.
func (j *Journal) loadIdentity() (identity, error) {
	path := filepath.Join(j.options.Directory, identityFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return j.makeIdentity()
	}
	if err != nil {
		return identity{}, fmt.Errorf("read journal identity: %w", err)
	}
	var id identity
	if err := json.Unmarshal(data, &id); err != nil {
		return identity{}, fmt.Errorf("journal identity %s: %w", path, err)
	}
	if err := chain.CheckInstance(id.Instance); err != nil {
		return identity{}, fmt.Errorf("journal identity %s: %w", path, err)
	}
	if raw, err := hex.DecodeString(id.Journal); err != nil || len(raw) != 8 {
		return identity{}, fmt.Errorf("journal identity %s: `journal` is not 16 hex digits", path)
	}
	if _, err := id.secret(); err != nil {
		return identity{}, fmt.Errorf("journal identity %s: %w", path, err)
	}
	if want := j.options.Instance; want != "" && want != id.Instance {
		return identity{}, fmt.Errorf("`chain::instance` is %q, but the journal in %s was made for %q: set it back, or give the new instance a journal directory of its own", want, j.options.Directory, id.Instance)
	}
	return id, nil
}

func (j *Journal) makeIdentity() (identity, error) {
	numbers, err := listSegments(j.options.Directory)
	if err != nil {
		return identity{}, err
	}
	if len(numbers) > 0 {
		return identity{}, fmt.Errorf("journal %s has segments but no file `%s`: restore it", j.options.Directory, identityFile)
	}
	instance := j.options.Instance
	if instance == "" {
		instance = hostInstance()
	}
	if err := chain.CheckInstance(instance); err != nil {
		return identity{}, fmt.Errorf("`chain::instance`: %w", err)
	}
	return identity{Instance: instance, Journal: randomHex(8), Secret: randomHex(secretSize)}, nil
}

// secureIdentity makes the identity durable before the first segment is there.
// A process that wrote it before may have failed or died before the name of the
// file was on disk: a power cut would take it, and leave a segment that belongs
// to nobody.
func (j *Journal) secureIdentity(id identity) error {
	numbers, err := listSegments(j.options.Directory)
	if err != nil || len(numbers) > 0 {
		return err
	}
	data, err := json.Marshal(id) //nolint:gosec // its file is the place of the secret
	if err != nil {
		return fmt.Errorf("write journal identity: %w", err)
	}
	return j.disk.WriteFile(filepath.Join(j.options.Directory, identityFile), append(data, '\n'))
}

// hostInstance is the host name, with what an instance cannot hold replaced.
func hostInstance() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "unnamed"
	}
	return strings.Map(func(r rune) rune {
		if r < 0x80 && chain.CheckInstance("x"+string(r)) == nil {
			return r
		}
		return '-'
	}, host)
}

// newLife names one start of the processor.
func newLife(now time.Time) string {
	return now.UTC().Format("20060102T150405Z") + "-" + randomHex(4)
}

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, see its documentation
	return hex.EncodeToString(b)
}

// readCursor returns the number of the newest frame that is known to be
// delivered, 0 if there is none.
func (j *Journal) readCursor() (uint64, error) {
	path := filepath.Join(j.options.Directory, cursorFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return j.oldestCursor()
	}
	if err != nil {
		return 0, fmt.Errorf("read cursor: %w", err)
	}
	text, _, _ := strings.Cut(string(data), " ")
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil || string(data) != formatCursor(number) {
		return 0, fmt.Errorf("cursor %s is damaged: remove it to deliver again all that the journal holds; sinks skip what they have", path)
	}
	return number, nil
}

// oldestCursor stands before the oldest segment: what was removed was
// delivered.
func (j *Journal) oldestCursor() (uint64, error) {
	numbers, err := listSegments(j.options.Directory)
	if err != nil || len(numbers) == 0 {
		return 0, err
	}
	return numbers[0] - 1, nil
}

func formatCursor(number uint64) string {
	text := strconv.FormatUint(number, 10)
	return fmt.Sprintf("%s %08x\n", text, crc32.Checksum([]byte(text), castagnoli))
}
