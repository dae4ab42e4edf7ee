// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/otelaudit/otelaudit/internal/durable"
)

// keptFile is a file beside the journal that is appended to, and written anew
// where that has failed. For one goroutine at a time.
type keptFile struct {
	path    string
	file    *os.File // that is appended to; nil: has to be written anew
	unsaved bool     // it lacks something
}

// open opens the file as the last process left it, which may have been killed
// between write and sync: what is there becomes durable.
func (f *keptFile) open() error {
	file, err := os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if err := errors.Join(file.Sync(), durable.SyncDir(filepath.Dir(f.path))); err != nil {
		return errors.Join(err, file.Close())
	}
	f.file = file
	return nil
}

// append adds data and syncs it. After an error the file has to be written anew.
func (f *keptFile) append(data []byte) error {
	_, err := f.file.Write(data)
	if err == nil {
		err = f.file.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("append to %s: %w", f.path, err), f.letGo())
	}
	return nil
}

// replace writes the file anew.
func (f *keptFile) replace(data []byte) error {
	err := f.letGo()
	if err == nil {
		err = durable.WriteFile(f.path, data)
	}
	if err == nil {
		f.file, err = os.OpenFile(f.path, os.O_WRONLY|os.O_APPEND, 0o600)
	}
	if err == nil {
		f.unsaved = false
	}
	return err
}

// letGo closes the file. To go on, it has to be written anew.
func (f *keptFile) letGo() error {
	f.unsaved = true
	if f.file == nil {
		return nil
	}
	file := f.file
	f.file = nil
	return file.Close()
}
