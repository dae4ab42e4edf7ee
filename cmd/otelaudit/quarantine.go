// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/otelaudit/otelaudit/internal/quarantine"
)

// maxReason is how much of a reason is sealed, in bytes.
const maxReason = 512

// care is what the command line asks for records in quarantine.
type care struct {
	action      string // ls, show, replay or drop
	json        bool
	all         bool
	reason      string
	directory   string
	coordinates []quarantine.Coordinate
}

// runQuarantine is otelaudit quarantine.
func runQuarantine(args []string, stdout, stderr io.Writer) int {
	c, err := parseCare(args)
	if errors.Is(err, flag.ErrHelp) {
		return write(stdout, help("quarantine"))
	}
	if err != nil {
		complain(stderr, fmt.Errorf("quarantine: %w; see otelaudit quarantine --help", err))
		return exitUsage
	}
	if err := c.run(stdout); err != nil {
		complain(stderr, err)
		return exitRead
	}
	return exitSound
}

// parseCare reads the arguments; flags may stand before and after the others.
func parseCare(args []string) (*care, error) {
	if len(args) == 0 {
		return nil, errors.New("want ls, show, replay or drop")
	}
	c := care{action: args[0]}
	flags := flag.NewFlagSet("quarantine", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.BoolVar(&c.json, "json", false, "")
	switch c.action {
	case "ls":
		c.all = true
	case "show":
	case "replay", "drop":
		flags.BoolVar(&c.all, "all", false, "")
		flags.StringVar(&c.reason, "reason", "", "")
	case "help", "--help", "-h":
		return nil, flag.ErrHelp
	default:
		return nil, fmt.Errorf("want ls, show, replay or drop, found %q", c.action)
	}
	rest, err := parseFlags(flags, args[1:])
	if err != nil {
		return nil, err
	}
	return &c, c.take(rest)
}

// take reads what is no flag.
func (c *care) take(rest []string) error {
	if len(rest) == 0 {
		return errors.New("name the quarantine directory: `quarantine::directory` of the exporter," +
			" by default its `file::directory` with .quarantine behind it, or the folder quarantine in the journal directory")
	}
	c.directory = rest[0]
	for _, text := range rest[1:] {
		coordinate, err := quarantine.ParseCoordinate(text)
		if err != nil {
			return err
		}
		c.coordinates = append(c.coordinates, coordinate)
	}
	switch {
	case c.all && len(c.coordinates) > 0:
		return errors.New("name coordinates or all, not both")
	case !c.all && len(c.coordinates) == 0:
		return errors.New("name the coordinates of records, as `otelaudit quarantine ls` prints them")
	case c.action == "drop" && strings.TrimSpace(c.reason) == "":
		return errors.New("drop needs --reason TEXT: it is sealed, for whoever asks later")
	case len(c.reason) > maxReason:
		return fmt.Errorf("--reason is longer than %d bytes", maxReason)
	}
	return nil
}

func (c *care) run(stdout io.Writer) error {
	exists, err := quarantine.Exists(c.directory)
	if err != nil {
		return err
	}
	if !exists { // it would look like an empty one
		return fmt.Errorf("%s is no quarantine directory; an exporter makes it at its start, a processor when it is first needed", c.directory)
	}
	if c.all {
		if c.coordinates, err = quarantine.List(c.directory); err != nil {
			return err
		}
	}
	if c.action == "replay" || c.action == "drop" {
		return c.ask(stdout)
	}
	return c.print(stdout)
}

// ask leaves a request for each record. What fails does not keep the others.
func (c *care) ask(stdout io.Writer) error {
	request := quarantine.Request{Action: quarantine.Action(c.action), At: time.Now(), Reason: c.reason}
	asked := []string{}
	var unread error
	for _, coordinate := range c.coordinates {
		if err := quarantine.Ask(c.directory, coordinate, request); err != nil {
			unread = errors.Join(unread, err)
			continue
		}
		asked = append(asked, coordinate.String())
	}
	if c.json {
		return errors.Join(unread, printJSON(stdout, map[string]any{"action": c.action, "asked": asked}))
	}
	if len(asked) == 0 {
		if unread == nil {
			_, unread = io.WriteString(stdout, "nothing is in quarantine\n")
		}
		return unread
	}
	text := fmt.Sprintf("%s of %d record(s) is asked for; the running collector does it with its next delivery,"+
		" at the latest after one `chain.heartbeat` (60 s by default); `otelaudit quarantine ls` then shows what is left\n", c.action, len(asked))
	_, err := io.WriteString(stdout, text)
	return errors.Join(unread, err)
}

// patient is one record in quarantine as it is printed.
type patient struct {
	Coordinate string `json:"coordinate"`
	Origin     string `json:"origin"`
	Index      string `json:"index"`
	// Error says why the rest is not there.
	Error   string          `json:"error,omitempty"`
	At      string          `json:"at,omitempty"`
	Sink    string          `json:"sink,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Stream  string          `json:"stream,omitempty"`
	Hash    string          `json:"hash,omitempty"`
	Digest  string          `json:"digest,omitempty"`
	Bytes   int             `json:"bytes,omitempty"`
	Request *asked          `json:"request,omitempty"`
	Failure *asked          `json:"failure,omitempty"`
	Event   json.RawMessage `json:"event,omitempty"`
}

// asked is a request, or why it failed.
type asked struct {
	Action string `json:"action"`
	At     string `json:"at"`
	Reason string `json:"reason,omitempty"`
}

// print prints the records, each of them even if another cannot be read.
func (c *care) print(stdout io.Writer) error {
	patients := make([]patient, 0, len(c.coordinates))
	var unread error
	for _, coordinate := range c.coordinates {
		p, err := c.read(coordinate)
		if errors.Is(err, os.ErrNotExist) && c.all {
			continue // the collector was faster
		}
		if err != nil {
			p.Error = err.Error()
			unread = errors.Join(unread, err)
		}
		patients = append(patients, p)
	}
	if c.json {
		return errors.Join(unread, printJSON(stdout, map[string]any{"records": patients}))
	}
	return errors.Join(unread, printPatients(stdout, patients))
}

func (c *care) read(coordinate quarantine.Coordinate) (patient, error) {
	p := patient{
		Coordinate: coordinate.String(), Origin: coordinate.Origin, Index: strconv.FormatUint(coordinate.Index, 10),
	}
	e, err := quarantine.Read(c.directory, coordinate)
	if err != nil {
		return p, err
	}
	p.At, p.Sink, p.Reason = format(e.At), e.Sink, e.Reason
	p.Stream, p.Hash, p.Digest, p.Bytes = e.Link.Stream, e.Hash.String(), e.Link.Digest.String(), len(e.Event)
	if c.action == "show" {
		p.Event = e.Event
	}
	request, requestErr := quarantine.ReadRequest(c.directory, coordinate)
	p.Request, requestErr = printed(request, requestErr)
	failure, failureErr := quarantine.ReadFailure(c.directory, coordinate)
	p.Failure, failureErr = printed(failure, failureErr)
	return p, errors.Join(requestErr, failureErr)
}

// printed is nothing for a file that is not there.
func printed(r quarantine.Request, err error) (*asked, error) {
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &asked{Action: string(r.Action), At: format(r.At), Reason: r.Reason}, nil
}

func format(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }

// writePrintable writes JSON such that a terminal shows all of it and obeys none
// of it. It stays the same JSON value.
func writePrintable(b *strings.Builder, event []byte) {
	for _, r := range string(event) {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xFFFF:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
}

// printPatients prints records for people. What others wrote is quoted.
func printPatients(w io.Writer, patients []patient) error {
	var b strings.Builder
	for i := range patients {
		p := &patients[i]
		fmt.Fprintf(&b, "%s\n", p.Coordinate)
		if p.Error != "" {
			fmt.Fprintf(&b, "  cannot be read: %q\n", p.Error)
		}
		if p.At != "" {
			fmt.Fprintf(&b, "  refused at %s by %q, %d bytes, stream %q\n  %q\n", p.At, p.Sink, p.Bytes, p.Stream, p.Reason)
		}
		if p.Request != nil {
			fmt.Fprintf(&b, "  %s asked at %s", p.Request.Action, p.Request.At)
			if p.Request.Reason != "" {
				fmt.Fprintf(&b, ": %q", p.Request.Reason)
			}
			b.WriteByte('\n')
		}
		if p.Failure != nil {
			fmt.Fprintf(&b, "  %s failed at %s: %q\n", p.Failure.Action, p.Failure.At, p.Failure.Reason)
		}
		if p.Event != nil {
			fmt.Fprintf(&b, "  hash %s\n  digest %s\n  ", p.Hash, p.Digest)
			writePrintable(&b, p.Event)
			b.WriteByte('\n')
		}
	}
	if len(patients) == 0 {
		b.WriteString("nothing is in quarantine\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print the quarantine: %w", err)
	}
	return nil
}
