// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package auditreceiver

import (
	"errors"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	encodingZstd = "zstd"

	// maxZstdWindow is what RFC 9659 allows for bodies over HTTP. A frame of
	// twenty bytes may ask for a window of half a gigabyte.
	maxZstdWindow = 8 << 20
)

var zstdDecoders sync.Pool // of *zstd.Decoder

// readZstd decompresses a body in place of the server's own decoder, which
// takes windows of any size.
func readZstd(body io.ReadCloser) (io.ReadCloser, error) {
	if decoder, ok := zstdDecoders.Get().(*zstd.Decoder); ok {
		if err := decoder.Reset(body); err != nil {
			return nil, err
		}
		return &zstdBody{decoder}, nil
	}
	decoder, err := zstd.NewReader(body, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxZstdWindow))
	if err != nil {
		return nil, err
	}
	return &zstdBody{decoder}, nil
}

// zstdBody gives its decoder back when it is closed.
type zstdBody struct{ decoder *zstd.Decoder }

func (b *zstdBody) Read(p []byte) (int, error) {
	if b.decoder == nil {
		return 0, io.ErrClosedPipe
	}
	return b.decoder.Read(p)
}

func (b *zstdBody) Close() error {
	if b.decoder == nil {
		return nil
	}
	decoder := b.decoder
	b.decoder = nil
	if err := decoder.Reset(nil); err != nil {
		return err
	}
	zstdDecoders.Put(decoder)
	return nil
}

// zstdMessages decompresses gRPC messages with the same bound on windows, in
// place of the decoder that the collector registers.
type zstdMessages struct{ limit int64 }

func (zstdMessages) Type() string { return encodingZstd }

// Do returns at most one byte more than the limit: grpc then refuses the message.
func (z zstdMessages) Do(r io.Reader) ([]byte, error) {
	body, err := readZstd(io.NopCloser(r))
	if err != nil {
		return nil, err
	}
	message, err := io.ReadAll(io.LimitReader(body, z.limit+1))
	return message, errors.Join(err, body.Close())
}
