package main

import (
	"reflect"
	"strings"

	"kurir/secretfile"
)

// readSecretFiles reads the secrets that come from files into values, and notes which.
func (c *config) readSecretFiles(values map[string]string) (faults []error) {
	c.inFiles, faults = secretfile.Read(values, reflect.TypeFor[config]())
	for _, name := range c.inFiles {
		c.explicit[name] = true
	}
	return faults
}

// saidOfFiles tells which secrets came from files.
func (c *config) saidOfFiles() string {
	if len(c.inFiles) == 0 {
		return ""
	}
	return "; from files: " + strings.Join(c.inFiles, ", ")
}
