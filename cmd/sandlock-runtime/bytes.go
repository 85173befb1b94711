package main

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// parseBytes reads a size as runc's update takes it: bytes, or a number with a unit of 1024 such as 64m, 1.5g, 512KiB; -1 is no
// limit.
func parseBytes(text string) (int64, error) {
	if text == "-1" {
		return -1, nil
	}
	digits := strings.TrimRight(text, "bBiIkKmMgGtTpP ")
	shift, err := unitShift(strings.ToLower(strings.TrimPrefix(text[len(digits):], " ")))
	if err != nil {
		return 0, err
	}
	number, err := strconv.ParseFloat(digits, 64)
	if err != nil || number < 0 || math.IsNaN(number) || math.IsInf(number, 0) || strings.ContainsAny(digits, "eExX_") {
		return 0, errors.New("not a size")
	}
	if whole, err := strconv.ParseInt(digits, 10, 64); err == nil && shift == 0 {
		return whole, nil
	}
	bytes := number * float64(int64(1)<<shift)
	if bytes >= math.MaxInt64 {
		return 0, errors.New("too large")
	}
	return int64(bytes), nil
}

// unitShift is the power of two that a unit stands for: k, kb and kib are all 1024.
func unitShift(unit string) (int, error) {
	short := strings.TrimSuffix(strings.TrimSuffix(unit, "b"), "i")
	if short == "" && strings.HasPrefix(unit, "i") || len(short) > 1 {
		return 0, errors.New("unknown unit")
	}
	if short == "" {
		return 0, nil
	}
	power := strings.Index("kmgtp", short)
	if power < 0 {
		return 0, errors.New("unknown unit")
	}
	return 10 * (power + 1), nil
}
