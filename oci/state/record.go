package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// The files of the directory.
const (
	recordFile  = "state.json"
	exitFile    = "exit.json"
	startedFile = "started"
	// deletingFile is there while a delete is at work that waits for the monitor.
	deletingFile = "deleting"
	// ConfigFile is the spec as create resolved it, from which exec takes user, capabilities, environment, limits and
	// filters. Later changes of the bundle's config.json do not reach it.
	ConfigFile = "config.json"
)

// version is that of the layout. It grows with every change that an older binary would misread.
const version = 1

// ErrNoRecord is what Load gets for a container of which nothing is recorded yet, or any more: a create that is at work,
// or died. It is an ErrNotExist, too.
var ErrNoRecord = fmt.Errorf("%w: it is half made", ErrNotExist)

// Record is what is known of a container. Save writes all but Started and Exit, which have files of their own.
type Record struct {
	Version     int               `json:"version"`
	ID          string            `json:"id"`
	Bundle      string            `json:"bundle"` // absolute
	Rootfs      string            `json:"rootfs"` // absolute
	Annotations map[string]string `json:"annotations,omitempty"`
	Created     time.Time         `json:"created"` // UTC

	// BootID is that of the boot in which the processes below were started.
	BootID string `json:"bootId"`
	// Init is the container's first process; zero until there is one.
	Init Process `json:"init"`
	// Monitor is the process that answers for the container: first the creator, then the monitor. While there is no Init,
	// its death means that the creation has failed.
	Monitor Process `json:"monitor"`

	// Namespaces maps type to the path of a namespace of Init (/proc/PID/ns/...), or the path that it joined.
	Namespaces map[specs.LinuxNamespaceType]string `json:"namespaces,omitempty"`
	// CgroupPaths and Cgroup are what cgroup.Load takes: controller to directory, and the configuration.
	CgroupPaths map[string]string `json:"cgroupPaths,omitempty"`
	Cgroup      json.RawMessage   `json:"cgroup,omitempty"`

	// Details is room for what a layer above wants back, as it encodes it.
	Details json.RawMessage `json:"details,omitempty"`

	// Started tells that start has released the container's process.
	Started bool `json:"-"`
	// Exit is nil until the monitor has recorded the end.
	Exit *Exit `json:"-"`
}

// Exit is how a container ended.
type Exit struct {
	Code   int       `json:"code"`             // 0 to 255; 128 plus the signal when that ended it
	Signal int       `json:"signal,omitempty"` // the signal that ended it, or 0
	Time   time.Time `json:"time"`             // UTC
	Reason string    `json:"reason,omitempty"` // what else is to say, such as "killed: out of memory"
}

// Save writes the record, for the creator and the monitor, of which one writes at a time.
func (d *Dir) Save(r *Record) error {
	out := *r
	out.Version, out.ID = version, d.id
	text, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("%s: %w", recordFile, err)
	}
	return d.WriteFile(recordFile, text)
}

// Load reads all that is recorded. The error is ErrNoRecord where that is nothing, or was torn by a crash of the system.
func (d *Dir) Load() (*Record, error) {
	text, err := d.ReadFile(recordFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNoRecord, d.id)
	}
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord(text)
	if err != nil {
		return nil, fmt.Errorf("%s/%s: %w", d.Path(), recordFile, err)
	}
	if r.ID != d.id {
		return nil, fmt.Errorf("%s/%s: field id: it is %q, the record of another container", d.Path(), recordFile, r.ID)
	}
	err = unix.Faccessat(d.Fd(), startedFile, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW)
	r.Started = err == nil
	if r.Exit, err = d.loadExit(); err != nil {
		return nil, err
	}
	return r, nil
}

func decodeRecord(text []byte) (*Record, error) {
	if len(text) == 0 {
		return nil, fmt.Errorf("%w: empty file", ErrNoRecord)
	}
	var r Record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoRecord, err)
	}
	if r.Version != version {
		return nil, fmt.Errorf("field version: it is %d, this program knows %d", r.Version, version)
	}
	return &r, nil
}

// SaveExit records how the container ended. It is for the monitor alone.
func (d *Dir) SaveExit(e Exit) error {
	text, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("%s: %w", exitFile, err)
	}
	return d.WriteFile(exitFile, text)
}

func (d *Dir) loadExit() (*Exit, error) {
	text, err := d.ReadFile(exitFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var e Exit
	if err := json.Unmarshal(text, &e); err != nil {
		return nil, fmt.Errorf("%s/%s: %w", d.Path(), exitFile, err)
	}
	return &e, nil
}

// MarkStarted records that start releases the container's process. Of several starts one is told true.
func (d *Dir) MarkStarted() (first bool, err error) {
	f, err := d.open(startedFile, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, f.Close()
}

// MarkDeleting records that a delete is at work, which removes the container when its monitor has ended.
func (d *Dir) MarkDeleting() error {
	f, err := d.open(deletingFile, unix.O_WRONLY|unix.O_CREAT, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// Deleting says whether a delete is at work, or was killed at work.
func (d *Dir) Deleting() bool {
	return unix.Faccessat(d.Fd(), deletingFile, unix.F_OK, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// OCIState is the state document of the runtime specification, which hooks get.
// https://github.com/opencontainers/runtime-spec/blob/main/runtime.md#state
func (r *Record) OCIState(status specs.ContainerState) *specs.State {
	s := &specs.State{
		Version:     specs.Version,
		ID:          r.ID,
		Status:      status,
		Bundle:      r.Bundle,
		Annotations: maps.Clone(r.Annotations),
	}
	if status != specs.StateStopped {
		s.Pid = r.Init.PID
	}
	return s
}
