// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package verify

// LimitRegions lowers the number of regions per origin that wait for late
// lines.
func (v *Verifier) LimitRegions(n int) { v.maxRegions = n }
