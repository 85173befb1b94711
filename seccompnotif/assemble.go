package seccompnotif

import (
	"maps"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Offsets into struct seccomp_data. Both supported architectures are little-endian: the lower half of an argument comes first.
const (
	offsetNR   = uint32(unsafe.Offsetof(seccompData{}.nr))
	offsetArch = uint32(unsafe.Offsetof(seccompData{}.arch))
	offsetArgs = uint32(unsafe.Offsetof(seccompData{}.args))
	wordSize   = uint32(unsafe.Sizeof(uint32(0)))
	argSize    = uint32(unsafe.Sizeof(uint64(0)))
)

// The instructions that filters here are made of.
func load(offset uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: offset}
}

func ret(value uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: value}
}

func and(mask uint32) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, K: mask}
}

func jump(skip int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JA, K: uint32(skip)}
}

// branch is a conditional jump: cmp is BPF_JEQ, BPF_JGE, BPF_JGT or BPF_JSET.
func branch(cmp uint16, k uint32, ifTrue, ifFalse int) unix.SockFilter {
	return unix.SockFilter{Code: unix.BPF_JMP | cmp | unix.BPF_K, Jt: uint8(ifTrue), Jf: uint8(ifFalse), K: k}
}

// farthest is the most instructions that a conditional jump can skip.
const farthest = 255

// assemble makes a filter: foreign architectures, then a binary search by number that ends in each call's verdict.
//
// The kernel runs every filter once for each number when it is installed, and skips it afterwards for the numbers that are
// allowed whatever their arguments (since Linux 5.11). It can do so only as long as nothing but the number and the
// architecture is looked at on the way, as here.
func assemble(of map[int]*verdict) []unix.SockFilter {
	enosys := ret(retErrno(unix.ENOSYS))
	program := []unix.SockFilter{
		load(offsetArch),
		branch(unix.BPF_JEQ, nativeAuditArch, 1, 0),
		enosys,
		load(offsetNR),
	}
	if foreignBit != 0 {
		program = append(program, branch(unix.BPF_JGE, foreignBit, 0, 1), enosys)
	}
	return append(program, search(intervals(of))...)
}

// interval is a range of system call numbers with one verdict: from first up to the next interval's.
type interval struct {
	first int
	block []unix.SockFilter // ends in a return on every path
}

// intervals divides the numbers, from zero up without end.
func intervals(of map[int]*verdict) []interval {
	list := []interval{{first: 0, block: verdictBlock(&verdict{final: retAllow})}}
	add := func(first int, block []unix.SockFilter) {
		last := &list[len(list)-1]
		switch {
		case slices.Equal(last.block, block): // goes on
		case last.first == first:
			last.block = block
		default:
			list = append(list, interval{first, block})
		}
	}
	allow := list[0].block
	next := 0
	for _, nr := range slices.Sorted(maps.Keys(of)) {
		if nr > next {
			add(next, allow)
		}
		add(nr, verdictBlock(of[nr]))
		next = nr + 1
	}
	add(next, allow)
	return list
}

// search is a balanced tree of comparisons of the accumulator, which holds the number, with the intervals' first numbers.
func search(list []interval) []unix.SockFilter {
	if len(list) == 1 {
		return list[0].block
	}
	middle := len(list) / 2
	below, above := search(list[:middle]), search(list[middle:])
	first := uint32(list[middle].first)
	var node []unix.SockFilter
	if len(below) <= farthest {
		node = append(node, branch(unix.BPF_JGE, first, len(below), 0))
	} else {
		node = append(node, branch(unix.BPF_JGE, first, 0, 1), jump(len(below)))
	}
	return append(append(node, below...), above...)
}

// verdictBlock tries the rules in order.
func verdictBlock(v *verdict) []unix.SockFilter {
	var block []unix.SockFilter
	for _, r := range v.rules {
		block = append(block, ruleBlock(r)...)
	}
	return append(block, ret(v.final))
}

// ruleBlock returns the rule's answer if all of its conditions hold, and goes on behind its own end if one does not. It is
// made from the end to the beginning, since each condition has to know how far away that end is. [checkMatches] bounds the
// number of conditions so that it is never too far.
func ruleBlock(r rule) []unix.SockFilter {
	block := []unix.SockFilter{ret(r.ret)}
	for _, m := range slices.Backward(r.when) {
		block = append(matchBlock(m, len(block)), block...)
	}
	return block
}

// matchBlock goes on behind its own end if m holds, and skips miss instructions more if it does not.
func matchBlock(m Match, miss int) []unix.SockFilter {
	low := load(offsetArgs + uint32(m.Arg)*argSize)
	high := load(offsetArgs + uint32(m.Arg)*argSize + wordSize)
	value, mask := [2]uint32{uint32(m.Value), uint32(m.Value >> 32)}, [2]uint32{uint32(m.Mask), uint32(m.Mask >> 32)}
	switch m.Op {
	case Equal:
		half := []unix.SockFilter{low, branch(unix.BPF_JEQ, value[0], 0, miss)}
		if m.Wide {
			return append([]unix.SockFilter{high, branch(unix.BPF_JEQ, value[1], 0, miss+len(half))}, half...)
		}
		return half
	case NotEqual:
		half := []unix.SockFilter{low, branch(unix.BPF_JEQ, value[0], miss, 0)}
		if m.Wide {
			return append([]unix.SockFilter{high, branch(unix.BPF_JEQ, value[1], 0, len(half))}, half...)
		}
		return half
	case MaskedEqual:
		half := []unix.SockFilter{low, and(mask[0]), branch(unix.BPF_JEQ, value[0], 0, miss)}
		if m.Wide {
			return append([]unix.SockFilter{high, and(mask[1]), branch(unix.BPF_JEQ, value[1], 0, miss+len(half))}, half...)
		}
		return half
	default: // AnyBit
		half := []unix.SockFilter{low, branch(unix.BPF_JSET, mask[0], 0, miss)}
		if m.Wide {
			return append([]unix.SockFilter{high, branch(unix.BPF_JSET, mask[1], len(half), 0)}, half...)
		}
		return half
	}
}
