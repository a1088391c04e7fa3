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

// fileSuffix makes the name of the variable that names a secret's file: JWT_SECRET_FILE.
const fileSuffix = "_FILE"

// largestSecret is what is read of such a file at the most.
const largestSecret = 64 << 10

// readSecretFiles reads the secrets that come from files, as container platforms and systemd hand them over, into values. What it
// says names variables, and never what they hold: a path may be a secret that somebody put into the wrong variable.
func (c *config) readSecretFiles(values map[string]string) (faults []error) {
	t := reflect.TypeFor[config]()
	for i := range t.NumField() {
		name, secret := t.Field(i).Tag.Get("env"), t.Field(i).Tag.Get("secret") != ""
		path := values[name+fileSuffix]
		if name == "" || path == "" {
			continue
		}
		if err := c.readSecret(values, name, path, secret); err != nil {
			faults = append(faults, err)
		}
	}
	return faults
}

func (c *config) readSecret(values map[string]string, name, path string, secret bool) error {
	switch {
	case !secret:
		return fmt.Errorf("%s%s: only secrets are read from files, set %[1]s", name, fileSuffix)
	case values[name] != "":
		return fmt.Errorf("%s and %[1]s%s are both set: set one of them", name, fileSuffix)
	}
	value, err := readSecretFile(path)
	if err != nil {
		return fmt.Errorf("%s%s: the file that it names %w", name, fileSuffix, err)
	}
	values[name], c.explicit[name] = value, true
	c.inFiles = append(c.inFiles, name)
	return nil
}

// readSecretFile reads the one line of a file, without its end. Its errors go on from "the file".
func readSecretFile(path string) (string, error) {
	file, err := os.Open(path)
	var body []byte
	if err == nil {
		defer func() { _ = file.Close() }()
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
		return "", errors.New("has more than one line: where several secrets are allowed, commas stand between them")
	}
	return value, nil
}

// saidOfFiles tells which secrets came from files.
func (c *config) saidOfFiles() string {
	if len(c.inFiles) == 0 {
		return ""
	}
	return "; from files: " + strings.Join(c.inFiles, ", ")
}
