package state

import (
	"slices"
	"unicode/utf8"
)

// Match reports whether any value matches any pattern. In a pattern * matches any text, ? matches
// any character, and a backslash escapes the next character, as in the filters of EC2's Describe
// calls.
func Match(patterns []string, values ...string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		return slices.ContainsFunc(values, func(value string) bool { return matchOne(pattern, value) })
	})
}

// matchOne matches one value. On a mismatch it backtracks to the last * and lets it match one
// more character. This is sufficient: an earlier * never has to be tried again.
func matchOne(pattern, value string) bool {
	p, v := 0, 0
	star, starValue := -1, 0
	for v < len(value) {
		if p < len(pattern) && pattern[p] == '*' {
			star, starValue = p, v
			p++
			continue
		}
		if np, nv, ok := matchNext(pattern, p, value, v); ok {
			p, v = np, nv
			continue
		}
		if star < 0 {
			return false
		}
		_, size := utf8.DecodeRuneInString(value[starValue:])
		starValue += size
		p, v = star+1, starValue
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchNext matches one element of the pattern other than *. It returns the positions after it in
// both texts.
func matchNext(pattern string, p int, value string, v int) (int, int, bool) {
	if p == len(pattern) {
		return 0, 0, false
	}
	if pattern[p] == '?' {
		_, size := utf8.DecodeRuneInString(value[v:])
		return p + 1, v + size, true
	}
	if pattern[p] == '\\' && p+1 < len(pattern) {
		p++
	}
	return p + 1, v + 1, pattern[p] == value[v]
}
