package oci

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/sandlock/sandlock-runtime/oci/state"
)

// List returns the containers under the root, in order of their ids. The error is fs.ErrNotExist where there is no such root. One that
// goes away meanwhile is left out; one of which no more than a directory is there is being created, or what a crash has left
// of that; one that cannot be read is left out and logged.
func (r *Runtime) List() ([]state.View, error) {
	ids, err := state.List(r.Root)
	if err != nil {
		return nil, err
	}
	entries, errs := make([]state.View, len(ids)), make([]error, len(ids))
	var next atomic.Int64
	var all sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(ids)) { // there may be hundreds
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(ids)); i = next.Add(1) - 1 {
				entries[i], errs[i] = r.entry(ids[i])
			}
		})
	}
	all.Wait()
	var views []state.View
	for i, err := range errs {
		switch {
		case err == nil:
			views = append(views, entries[i])
		case errors.Is(err, state.ErrNotExist):
		default:
			r.Log.Warnf("load container %s: %v", ids[i], err)
		}
	}
	return views, nil
}

// entry is one line of the list.
func (r *Runtime) entry(id string) (state.View, error) {
	dir, err := state.Open(r.Root, id)
	if err != nil {
		return state.View{}, err
	}
	defer dir.Close()
	uid, err := dir.Owner()
	if err != nil {
		return state.View{}, err
	}
	view := state.View{OCIVersion: specs.Version, ID: id, Status: specs.StateCreating}
	record, status, err := loadContainer(dir)
	switch {
	case err == nil:
		view = state.NewView(record, status)
	case !errors.Is(err, state.ErrNoRecord):
		return state.View{}, err
	default:
		// Either it is being created, or it was removed a moment ago.
		again, err := state.Open(r.Root, id)
		if err != nil {
			return state.View{}, err
		}
		again.Close()
	}
	view.Owner = state.OwnerName(uid)
	return view, nil
}
