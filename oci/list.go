package oci

import (
	"errors"

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
	var views []state.View
	for _, id := range ids {
		view, err := r.entry(id)
		switch {
		case err == nil:
			views = append(views, view)
		case errors.Is(err, state.ErrNotExist):
		default:
			r.Log.Warnf("load container %s: %v", id, err)
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
	view, err := r.State(id)
	if errors.Is(err, state.ErrNoRecord) {
		view, err = state.View{OCIVersion: specs.Version, ID: id, Status: specs.StateCreating}, nil
	}
	view.Owner = state.OwnerName(uid)
	return view, err
}
