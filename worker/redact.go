package worker

import "regexp"

var phoneLike = regexp.MustCompile(`\d{4,}(\d{3})`)

// redact prepares an engine's error for the log: networks name people by phone number, so of long runs of digits
// only the last three are kept.
func redact(err error) string {
	return phoneLike.ReplaceAllString(err.Error(), "…$1")
}
