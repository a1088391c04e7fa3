package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"strings"
)

// largestSecret is what is read of a secret's file at the most.
const largestSecret = 64 << 10

// readSecretFiles reads the secrets that come from files, as NAME_FILE, into values. What it says names variables, and never what
// they hold: a path may be a secret that somebody put into the wrong variable.
func readSecretFiles(values map[string]string) (faults []error) {
	t := reflect.TypeFor[config]()
	for i := range t.NumField() {
		name, secret := t.Field(i).Tag.Get("env"), t.Field(i).Tag.Get("secret") != ""
		path := values[name+"_FILE"]
		switch {
		case name == "" || path == "":
		case !secret:
			faults = append(faults, fmt.Errorf("%s_FILE: only secrets are read from files, set %[1]s", name))
		case values[name] != "":
			faults = append(faults, fmt.Errorf("%s and %[1]s_FILE are both set: set one of them", name))
		default:
			value, err := readSecretFile(path)
			if err != nil {
				faults = append(faults, fmt.Errorf("%s_FILE: the file that it names %w", name, err))
			}
			values[name] = value
		}
	}
	return faults
}

// readSecretFile reads the one line of a file, without its end. Its errors go on from "the file".
func readSecretFile(path string) (string, error) {
	file, err := os.Open(path) //nolint:gosec // the operator names it
	var body []byte
	if err == nil {
		defer func() { _ = file.Close() }() // it was only read
		body, err = io.ReadAll(io.LimitReader(file, largestSecret+1))
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
	case len(body) > largestSecret:
		return "", fmt.Errorf("has more than %d bytes, so it is no secret", largestSecret)
	case strings.ContainsAny(value, "\r\n\x00"):
		return "", errors.New("has more than one line")
	}
	return value, nil
}
