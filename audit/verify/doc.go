// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

// Package verify says whether stored lines are what was sealed. It knows no
// file, no network, no clock and no secret: the caller feeds it lines and says
// whom to trust. docs/format.md is its specification.
//
// Lines pass once, in path order. Each is checked by itself as it comes: it is
// what the encoder writes, and its hash is that of its parts. Then it takes
// its place in its origin. A line whose turn has not come waits in a bounded
// window. A checkpoint confirms all that stands below it, if its key is trusted
// and the tree has the signed root; then nothing but the leaves' hashes is
// kept. Where the root differs or lines are missing, the region up to the
// checkpoint is set aside and the tree begins anew from the checkpoint's
// compact range.
//
// The rest is decided when all lines are read, because a line may come late:
// what is missing in the regions set aside, which of two lines for one
// coordinate the root knows, for which record an unsound line stands, how the
// lives of a log follow each other, and whether head and tail are proven.
//
// Memory is that of the streams, the window, the regions set aside (bounded)
// and 33 bytes for each record, which go to the caller's Spill beyond some
// 70 MB.
package verify
