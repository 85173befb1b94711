package launch

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"unsafe"
)

// A child is born without the heap of this process, and with its program; this process's other children, if it has any, get the heap as ever.
func TestChildIsBornWithoutTheHeap(t *testing.T) {
	p := New()
	p.Unblock()
	p.Sync("here")
	child, err := Start(p, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer child.Close()
	defer func() { _ = child.Kill() }()
	if _, err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	onHeap := uintptr(unsafe.Pointer(child)) // Start has made it there
	if found := mapping(t, child.PID, onHeap); found != "" {
		t.Errorf("the child has the heap: %s", found)
	}
	if mapping(t, child.PID, uintptr(unsafe.Pointer(unsafe.SliceData(child.arena.memory)))) == "" {
		t.Error("the child has no program")
	}
	own := mapping(t, os.Getpid(), onHeap)
	if _, flags, ok := strings.Cut(own, "VmFlags:"); !ok || strings.Contains(flags, " dc") {
		t.Errorf("the heap is kept from other children: %s", own)
	}
}

// mapping is what /proc/PID/smaps says of the mapping that an address is in, "" if there is none.
func mapping(t *testing.T, pid int, address uintptr) string {
	t.Helper()
	smaps, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps", pid))
	if err != nil {
		t.Fatal(err)
	}
	var found strings.Builder
	within := false
	for line := range strings.Lines(string(smaps)) {
		var start, end uintptr
		if n, _ := fmt.Sscanf(line, "%x-%x ", &start, &end); n == 2 {
			within = start <= address && address < end
		}
		if within {
			found.WriteString(line)
		}
	}
	return found.String()
}
