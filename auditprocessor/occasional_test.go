// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditprocessor

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
)

func TestOccasional(t *testing.T) {
	var o occasional
	now := time.Unix(0, 0)
	_, due := o.due(now)
	assert.True(t, due)
	for range 3 {
		_, due = o.due(now.Add(linePause - 1))
		assert.False(t, due)
	}
	more, due := o.due(now.Add(linePause))
	assert.True(t, due)
	assert.Equal(t, 3, more)
}
