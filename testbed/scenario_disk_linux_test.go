// Copyright The otelaudit Authors
// SPDX-License-Identifier: Apache-2.0

package testbed_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/otelaudit/otelaudit/testbed"
)

// mountsAreOurs is set in the environment of a process whose mounts nobody
// else sees.
const mountsAreOurs = "OTELAUDIT_TESTBED_MOUNTS_ARE_OURS"

// A full disk, on a small file system of its own: ext4 on a loop device where
// this process may mount one, else tmpfs. The test runs again in a mount
// namespace, so that no mount outlives it; where that is not allowed, in a user
// namespace as well.
func TestScenarioDiskFull(t *testing.T) {
	if os.Getenv(mountsAreOurs) == "" {
		runWithOwnMounts(t)
		return
	}
	t.Run("journal", journalDiskFull)
	t.Run("store", storeDiskFull)
}

func runWithOwnMounts(t *testing.T) {
	t.Helper()
	output, err := runIn(t, syscall.CLONE_NEWNS)
	if errors.Is(err, syscall.EPERM) { // not root, or root without the capability
		output, err = runIn(t, syscall.CLONE_NEWNS|syscall.CLONE_NEWUSER)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.FailNow(t, "no namespace for a small disk", "%v: run as root (`sudo -E env PATH=$PATH make testbed`), in a container with `--privileged`,"+
			" or allow user namespaces: `sudo sysctl -w user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0`", err)
	}
	t.Logf("%s", output)
	require.NoError(t, err)
}

// runIn runs this test in namespaces of its own. An error other than
// exec.ExitError says that there is none for this user.
func runIn(t *testing.T, namespaces uintptr) ([]byte, error) {
	t.Helper()
	command := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.v", "-test.timeout", "10m", "-results", *results)
	command.Env = append(os.Environ(), mountsAreOurs+"=1")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: namespaces, Pdeathsig: syscall.SIGKILL}
	if namespaces&syscall.CLONE_NEWUSER != 0 {
		command.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		command.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return command.CombinedOutput()
}

// smallDisk mounts an empty file system of the given size at directory.
func smallDisk(t *testing.T, directory string, mebibytes int) {
	t.Helper()
	require.NoError(t, syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""))
	require.NoError(t, os.Mkdir(directory, 0o700))
	kind := "ext4"
	if err := mountImage(t, directory, mebibytes); err != nil {
		kind = "tmpfs"
		t.Logf("no ext4 here, tmpfs instead: %v", err)
		err := syscall.Mount("tmpfs", directory, "tmpfs", 0, "size="+strconv.Itoa(mebibytes)+"m")
		require.NoError(t, err, "mount a small disk: run as root, or with the capability SYS_ADMIN: `docker run --cap-add SYS_ADMIN …`")
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(directory, syscall.MNT_DETACH)) })
	t.Logf("%s of %d MiB", kind, mebibytes)
}

func mountImage(t *testing.T, directory string, mebibytes int) error {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, int64(mebibytes)<<20))
	if err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", image).Run(); err != nil {
		return err
	}
	if err := exec.Command("mount", "-o", "loop", image, directory).Run(); err != nil {
		return err
	}
	return os.Remove(filepath.Join(directory, "lost+found"))
}

// newBallast takes that much of a disk away until it is removed.
func newBallast(t *testing.T, directory string, mebibytes int) (remove func()) {
	t.Helper()
	path := filepath.Join(directory, "ballast")
	require.NoError(t, os.WriteFile(path, make([]byte, mebibytes<<20), 0o600))
	return func() { require.NoError(t, os.Remove(path)) }
}

func free(t *testing.T, directory string) int64 {
	t.Helper()
	var stat syscall.Statfs_t
	require.NoError(t, syscall.Statfs(directory, &stat))
	return int64(stat.Bavail) * stat.Bsize
}

// The disk of the journal is full: clients get 503 with Retry-After, intake
// resumes by itself when there is space, and neither a kill nor a start on the
// full disk loses or doubles anything.
func journalDiskFull(t *testing.T) {
	sink := newSink(t)
	settings := testbed.Settings{Directory: t.TempDir(), Extra: toSink(sink)}
	smallDisk(t, settings.Journal(), 64)
	removeBallast := newBallast(t, settings.Journal(), 16)
	c := start(t, settings)

	endless := func(ctx context.Context, c *testbed.Collector, name string) <-chan *testbed.Outcome {
		done := make(chan *testbed.Outcome, 1)
		go func() {
			done <- testbed.Load{Clients: 8, MaxBatch: 60, Seed: 1, Name: name, Patient: true}.Run(ctx, c.HTTP)
		}()
		return done
	}
	full := func(c *testbed.Collector) {
		refused := metric(t, c, "otelcol_processor_audit_refused_records")
		eventually(t, time.Minute, func() bool { return metric(t, c, "otelcol_processor_audit_refused_records") > refused+1000 }, "the disk is full")
		t.Logf("full: %d bytes are free", free(t, settings.Journal()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := endless(ctx, c, "first")
	full(c)
	sealed := metric(t, c, "otelcol_processor_audit_sealed_records")
	removeBallast()
	eventually(t, time.Minute, func() bool { return metric(t, c, "otelcol_processor_audit_sealed_records") > sealed+1000 }, "intake resumes by itself")
	full(c)
	require.NoError(t, c.Kill())
	cancel()
	total := <-done

	c = start(t, settings)
	ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	done = endless(ctx, c, "second")
	full(c)
	sealed = metric(t, c, "otelcol_processor_audit_sealed_records")
	require.NoError(t, sink.Up())
	eventually(t, time.Minute, func() bool { return metric(t, c, "otelcol_processor_audit_sealed_records") > sealed+1000 }, "intake resumes by itself")
	cancel()
	total.Add(<-done)
	retried := retry(t.Context(), c, total)
	drained(t, c, time.Minute)
	stop(t, c)

	require.Empty(t, total.Surprises)
	require.Positive(t, total.Busy)
	require.Zero(t, total.Unadvised, "answers 503 without Retry-After")
	requireSoundStore(t, settings, sink.Store())
	stored := readStore(t, sink.Store())
	requireKept(t, total, stored)
	_, _, faults := sink.Seen()
	require.Empty(t, faults)
	measured(t, "events", len(stored.Records), "answers 503", total.Busy, "requests sent again after the kill", retried)
}

// The disk of the store is full: intake goes on into the journal, and neither
// a kill nor a start on the full disk loses or doubles anything.
func storeDiskFull(t *testing.T) {
	settings := testbed.Settings{Directory: t.TempDir()}
	smallDisk(t, settings.Store(), 48)
	removeBallast := newBallast(t, settings.Store(), 32)
	c := start(t, settings)
	full := func(c *testbed.Collector, name string) *testbed.Outcome {
		total := testbed.NewOutcome()
		for round := 0; metric(t, c, "otelcol_processor_audit_delivery_failures") == 0; round++ {
			require.Less(t, round, 100, "the disk does not fill")
			total.Add(sendLoad(t, c, name+"-"+roundName(round), 2000))
		}
		t.Logf("full: %d bytes are free", free(t, settings.Store()))
		return total
	}
	total := full(c, "first")
	total.Add(sendLoad(t, c, "intake", 2000))
	require.NoError(t, c.Kill())
	c = start(t, settings)
	total.Add(full(c, "second"))
	total.Add(sendLoad(t, c, "again", 2000))
	pending := metric(t, c, "otelcol_processor_audit_pending_records")
	require.Positive(t, pending)
	removeBallast()
	drained(t, c, time.Minute)
	stop(t, c)

	requireSound(t, settings)
	stored := readStore(t, settings.Store())
	requireKept(t, total, stored)
	measured(t, "events", len(stored.Records), "waiting while it was full", pending)
}
