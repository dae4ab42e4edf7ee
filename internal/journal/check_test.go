// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/internal/journal/faultdisk"
)

func TestCheckReportsWhatIsThere(t *testing.T) {
	inWorld(t, func(_ *testing.T, w *world) {
		w.open()
		require.NoError(w.t, w.seal(w.client(2)))
		require.NoError(w.t, w.seal(w.client(3)))
		report, err := Check(w.disk.Directory)
		require.NoError(w.t, err)
		require.True(w.t, report.Running)
		require.Equal(w.t, int64(5), report.Records)
		require.Equal(w.t, w.journal.Origin(), report.Origin)
		require.Equal(w.t, uint64(6), report.Size, "with its start record")
		require.NoError(w.t, w.seal(w.control(Stop)))
		require.NoError(w.t, w.journal.Close())

		before := listing(w)
		report, err = Check(w.disk.Directory)
		require.NoError(w.t, err)
		require.False(w.t, report.Running)
		require.True(w.t, report.Ended)
		require.Equal(w.t, before, listing(w), "nothing is changed")
		w.open()
		w.finish()
	})
	_, err := Check(t.TempDir())
	require.ErrorContains(t, err, "is no journal directory")
}

func listing(w *world) map[string]string {
	files := map[string]string{}
	for name := range w.disk.Live {
		if name != reserveFile {
			files[name] = string(w.read(name))
		}
	}
	return files
}

// Every flipped bit of a journal of several segments is found, but for the last
// frame, where it looks like a torn write.
func TestCheckFindsDamage(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		files := filled(w)
		names := files.segments()
		directory := filepath.Join(faultdisk.Scratch(t), "journal")
		files.store(t, directory)
		_, err := Check(directory)
		require.NoError(t, err)
		for _, name := range names[:len(names)-1] {
			for at := 0; at < len(files[name]); at += 7 {
				damaged := bytes.Clone(files[name])
				damaged[at] ^= 4
				require.NoError(t, os.WriteFile(filepath.Join(directory, name), damaged, 0o600))
				_, err := Check(directory)
				var corrupt *CorruptError
				require.ErrorAs(t, err, &corrupt, "%s, byte %d", name, at)
				require.Equal(t, name, filepath.Base(corrupt.File))
			}
			require.NoError(t, os.WriteFile(filepath.Join(directory, name), files[name], 0o600))
		}
	})
}
