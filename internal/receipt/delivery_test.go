// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestDeliveryKeepsReports(t *testing.T) {
	assert.Nil(t, DeliveryFrom(t.Context()))
	d := &Delivery{}
	ctx := WithDelivery(t.Context(), d)
	require.Same(t, d, DeliveryFrom(ctx))
	var running sync.WaitGroup
	for i := range uint64(10) {
		running.Go(func() { DeliveryFrom(ctx).Report(Report{Action: Quarantined, Index: i}) })
	}
	running.Wait()
	var indexes []uint64
	for _, r := range d.Take() {
		indexes = append(indexes, r.Index)
	}
	assert.ElementsMatch(t, []uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}, indexes)
	assert.Empty(t, d.Take())
}
