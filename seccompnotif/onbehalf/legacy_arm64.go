package onbehalf

// Calls that this architecture does without: numbers that no call has.
const (
	sysOpen = -1 - iota
	sysCreat
)
