// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditexporter

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
	"go.opentelemetry.io/collector/component/componenttest"

	"github.com/otelaudit/otelaudit/auditexporter/internal/sink"
	"github.com/otelaudit/otelaudit/internal/receipt"
)

func TestHealthTellsWhatGetsWorse(t *testing.T) {
	var (
		away     = errors.New("away")
		full     = errors.New("almost full")
		password = fmt.Errorf("wrong password: %w", sink.ErrOperator)
		changed  = fmt.Errorf("changed: %w", receipt.ErrConflict)
	)
	host := &statusHost{Host: componenttest.NewNopHost()}
	h := health{host: host}
	for i, step := range []struct {
		err, trouble error
		told         error // nil: nothing
		recovered    bool
	}{
		{},
		{err: away, told: away},
		{err: away},
		{err: password, told: password},
		{err: away}, // the password has not been changed yet
		{err: changed, told: changed},
		{err: password},
		{recovered: true},
		{},
		{trouble: full, told: full},
		{trouble: full},
		{err: away, trouble: full, told: away},
		{trouble: full, told: full},
		{recovered: true},
	} {
		host.events = nil
		h.note(step.trouble)
		h.report(step.err)
		if step.told == nil && !step.recovered {
			assert.Empty(t, host.events, "step %d", i)
		} else if assert.Len(t, host.events, 1, "step %d", i) {
			assert.Equal(t, step.told, host.events[0].Err(), "step %d", i)
		}
	}
}
