package main

import (
	"fmt"
	"net/url"
	"strings"
)

// checkOrigins checks CORS_ORIGIN: * alone, or origins as browsers write them.
func checkOrigins(list string) error {
	if list == "" || list == "*" {
		return nil
	}
	for origin := range strings.SplitSeq(list, ",") {
		origin = strings.TrimSpace(origin)
		u, err := url.Parse(origin)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || origin != u.Scheme+"://"+u.Host || strings.Contains(u.Host, "*") {
			return fmt.Errorf("CORS_ORIGIN: %q is no origin, such as https://app.example.com; several stand with commas, * stands alone", origin)
		}
	}
	return nil
}
