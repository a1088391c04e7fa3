//go:build image

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rootfs is an image that was laid out in a folder, and what a container gets from it.
type rootfs struct {
	folder                     string
	user                       int
	workdir                    string
	entrypoint, command, check []string
}

// instruction is one of a Dockerfile. Body is its heredoc.
type instruction struct{ name, rest, body string }

var (
	continued = regexp.MustCompile(`\\\n\s*`)
	comment   = regexp.MustCompile(`(?m)^#.*\n`)
	heredoc   = regexp.MustCompile(`<<(\w+)`)
	stageName = regexp.MustCompile(`^\S+ AS (\S+)$`)
	mount     = regexp.MustCompile(`--mount=\S+\s+`)
)

// stages reads a Dockerfile. BuildKit's own reading is checked elsewhere.
func stages(t *testing.T, text string) map[string][]instruction {
	t.Helper()
	all, current := map[string][]instruction{}, ""
	lines := strings.Split(continued.ReplaceAllString(comment.ReplaceAllString(text, ""), ""), "\n")
	for i := 0; i < len(lines); i++ {
		name, rest, _ := strings.Cut(strings.TrimSpace(lines[i]), " ")
		if name == "" {
			continue
		}
		one := instruction{name: name, rest: rest}
		if end := heredoc.FindStringSubmatch(rest); end != nil {
			for i++; lines[i] != end[1]; i++ {
				one.body += lines[i] + "\n"
			}
		}
		if name == "FROM" {
			stage := stageName.FindStringSubmatch(strings.TrimPrefix(rest, "--platform=$BUILDPLATFORM "))
			require.NotNil(t, stage, rest)
			current = stage[1]
		}
		all[current] = append(all[current], one)
	}
	return all
}

// layOut does what the last stage of deploy/Dockerfile says. It fails on what it does not know.
func layOut(t *testing.T, version string) *rootfs {
	t.Helper()
	all := stages(t, read(t, filepath.Join(repository, "deploy/Dockerfile")))
	require.Equal(t, instruction{name: "FROM", rest: "scratch AS kurir"}, all["kurir"][0])
	im := &rootfs{folder: t.TempDir()}
	for _, one := range all["kurir"][1:] {
		switch one.name {
		case "ARG", "LABEL", "EXPOSE":
		case "COPY":
			im.copy(t, all, one, version)
		case "USER":
			uid, gid, _ := strings.Cut(one.rest, ":")
			require.Equal(t, uid, gid)
			var err error
			im.user, err = strconv.Atoi(uid)
			require.NoError(t, err)
		case "WORKDIR":
			im.workdir = one.rest
		case "ENTRYPOINT":
			im.entrypoint = list(t, one.rest)
		case "CMD":
			im.command = list(t, one.rest)
		case "HEALTHCHECK":
			_, check, _ := strings.Cut(one.rest, " CMD ")
			im.check = list(t, check)
		default:
			t.Fatalf("%s %s: not known here", one.name, one.rest)
		}
	}
	return im
}

func list(t *testing.T, text string) (words []string) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &words), text)
	return words
}

func (im *rootfs) copy(t *testing.T, all map[string][]instruction, one instruction, version string) {
	t.Helper()
	from, owner := "", 0
	words := strings.Fields(one.rest)
	for strings.HasPrefix(words[0], "--") {
		flag, value, _ := strings.Cut(words[0], "=")
		switch flag {
		case "--from":
			from = value
		case "--chown":
			uid, _, _ := strings.Cut(value, ":")
			var err error
			owner, err = strconv.Atoi(uid)
			require.NoError(t, err)
		default:
			t.Fatalf("%s: not known here", words[0])
		}
		words = words[1:]
	}
	require.Len(t, words, 2)
	to := filepath.Join(im.folder, words[1])
	require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o755))
	switch {
	case one.body != "":
		require.NoError(t, os.WriteFile(to, []byte(one.body), 0o644))
	case from == "source" && words[0] == "/empty":
		require.NoError(t, os.Mkdir(to, 0o755))
	case from == "source" && words[0] == "/etc/ssl/certs/ca-certificates.crt": // of this machine in place of Alpine's
		require.NoError(t, os.WriteFile(to, []byte(read(t, words[0])), 0o644))
	case from == "build-kurir" && words[0] == "/kurir":
		require.Len(t, all[from], 2)
		require.Equal(t, "RUN", all[from][1].name)
		build(t, mount.ReplaceAllString(all[from][1].rest, ""), to, version)
	case from == "":
		require.NoError(t, os.WriteFile(to, []byte(read(t, filepath.Join(repository, words[0]))), 0o644))
	default:
		t.Fatalf("COPY %s: not known here", one.rest)
	}
	require.NoError(t, os.Chown(to, owner, owner))
}

// build runs the command that builds, with its result at to.
func build(t *testing.T, command, to, version string) {
	t.Helper()
	require.Contains(t, command, "-o /kurir ")
	cmd := exec.Command("sh", "-c", strings.Replace(command, "-o /kurir ", "-o "+to+" ", 1))
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "VERSION="+version)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
}
