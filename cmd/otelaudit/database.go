// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"

	"github.com/otelaudit/otelaudit/audit/verify"
)

var errNoDatabase = errors.New("this version reads directories and files, not databases")

func (r *request) feedDatabase(context.Context, *verify.Verifier) error { return errNoDatabase }

func (s *search) readDatabase(context.Context, *shower, *cursor) error { return errNoDatabase }

func (s *search) followDatabase(context.Context) (follower, error) { return nil, errNoDatabase }

func runSchema([]string, console) int { return exitUsage }
