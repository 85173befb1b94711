package state

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os/user"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// View is a container as the verbs state and list print it. The JSON is runc's, to the order of fields.
type View struct {
	OCIVersion  string               `json:"ociVersion"` // that the state is of, whatever the spec's
	ID          string               `json:"id"`
	PID         int                  `json:"pid"` // of init; 0 when it has ended
	Status      specs.ContainerState `json:"status"`
	Bundle      string               `json:"bundle"`
	Rootfs      string               `json:"rootfs"`
	Created     time.Time            `json:"created"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	Owner       string               `json:"owner"` // list fills it, state leaves it empty, as runc does
}

// NewView makes the view of a container with the given status.
func NewView(r *Record, status specs.ContainerState) View {
	v := View{
		OCIVersion:  specs.Version,
		ID:          r.ID,
		Status:      status,
		Bundle:      r.Bundle,
		Rootfs:      r.Rootfs,
		Created:     r.Created,
		Annotations: r.Annotations,
	}
	if status != specs.StateStopped {
		v.PID = r.Init.PID
	}
	return v
}

// OwnerName is the name of a user, or "#UID" for one without.
func OwnerName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return "#" + strconv.Itoa(uid)
}

// WriteState prints one container as the verb state does.
func WriteState(w io.Writer, v View) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// WriteJSON prints containers as list --format json does; none is "null", as with runc.
func WriteJSON(w io.Writer, views []View) error {
	return json.NewEncoder(w).Encode(views)
}

// WriteTable prints containers as list does.
func WriteTable(w io.Writer, views []View) error {
	buffer := bufio.NewWriter(w) // a tabwriter writes cell by cell
	t := tabwriter.NewWriter(buffer, 12, 1, 3, ' ', 0)
	if _, err := fmt.Fprint(t, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n"); err != nil {
		return err
	}
	for _, v := range views {
		_, err := fmt.Fprintf(t, "%s\t%d\t%s\t%s\t%s\t%s\n", v.ID, v.PID, v.Status, v.Bundle, v.Created.Format(time.RFC3339Nano), v.Owner)
		if err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	return buffer.Flush()
}

// WriteIDs prints containers as list --quiet does.
func WriteIDs(w io.Writer, views []View) error {
	buffer := bufio.NewWriter(w)
	for _, v := range views {
		if _, err := fmt.Fprintln(buffer, v.ID); err != nil {
			return err
		}
	}
	return buffer.Flush()
}
