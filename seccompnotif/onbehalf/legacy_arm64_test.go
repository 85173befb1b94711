package onbehalf

// legacyChanges are those of [changes] that this architecture does without.
func legacyChanges(string, string) []order { return nil }
