package oci

import (
	"github.com/sandlock/sandlock-runtime/oci/state"
)

// State is the state of one container. The error is [state.ErrNotExist] where there is none, or nothing of it but a directory.
func (r *Runtime) State(id string) (state.View, error) {
	dir, record, status, err := r.open(id)
	if err != nil {
		return state.View{}, err
	}
	defer dir.Close()
	return state.NewView(record, status), nil
}
