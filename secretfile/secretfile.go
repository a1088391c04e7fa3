// Package secretfile reads secrets that come from files, as container platforms and systemd hand them over: NAME_FILE names the
// file of the variable NAME.
package secretfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
)

// Suffix makes the name of the variable that names a secret's file: JWT_SECRET_FILE.
const Suffix = "_FILE"

// largest is what is read of such a file at the most.
const largest = 64 << 10

// Read reads into values the secrets of a configuration whose fields have the tags env and, those that are secrets, secret. It returns
// the names of those that it read. What faults say names variables, and never what they hold: a path may be a secret that
// somebody put into the wrong variable.
func Read(values map[string]string, config reflect.Type) (names []string, faults []error) {
	for i := range config.NumField() {
		name, secret := config.Field(i).Tag.Get("env"), config.Field(i).Tag.Get("secret") != ""
		path := values[name+Suffix]
		if name == "" || path == "" {
			continue
		}
		value, err := one(values, name, path, secret)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		values[name] = value
		names = append(names, name)
	}
	return names, faults
}

func one(values map[string]string, name, path string, secret bool) (string, error) {
	switch {
	case !secret:
		return "", fmt.Errorf("%s%s: only secrets are read from files, set %[1]s", name, Suffix)
	case values[name] != "":
		return "", fmt.Errorf("%s and %[1]s%s are both set: set one of them", name, Suffix)
	}
	value, err := line(path)
	if err != nil {
		return "", fmt.Errorf("%s%s: the file that it names %w", name, Suffix, err)
	}
	return value, nil
}

// line reads the one line of a file, without its end. Its errors go on from "the file".
func line(path string) (string, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names it
	var body []byte
	if err == nil {
		defer func() { _ = file.Close() }() // it was only read
		body, err = io.ReadAll(io.LimitReader(file, largest+1))
	}
	if failed := new(fs.PathError); errors.As(err, &failed) {
		err = failed.Err // without the path
	}
	if err != nil {
		return "", fmt.Errorf("cannot be read by the user %d: %w", os.Getuid(), err)
	}
	value := strings.TrimRight(string(body), "\r\n")
	switch {
	case strings.TrimSpace(value) == "":
		return "", errors.New("is empty")
	case len(body) > largest:
		return "", fmt.Errorf("has more than %d bytes, so it is no secret", largest)
	case strings.ContainsAny(value, "\r\n\x00"):
		return "", errors.New("has more than one line: where several secrets are allowed, commas stand between them")
	}
	return value, nil
}
