// Package dockerfile checks deploy/Dockerfile with what BuildKit builds by. It takes a minute to build itself, so it is not beside the
// checks of docker-compose.yml. Nothing is built, and no network is needed.
package dockerfile

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/opencontainers/go-digest"
)

func dockerfile(t *testing.T) []byte {
	t.Helper()
	text, err := os.ReadFile("../../../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// registry answers for the images that the Dockerfile begins with.
type registry struct{ asked []string }

func (r *registry) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	r.asked = append(r.asked, ref)
	config := []byte(`{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/local/bin:/usr/bin:/bin"]},"rootfs":{"type":"layers"}}`)
	return ref, digest.FromBytes(config), config, nil
}

// The checks are those of `docker build --check`.
func TestDockerfileHasNoWarnings(t *testing.T) {
	text := dockerfile(t)
	source := llb.NewSourceMap(nil, "deploy/Dockerfile", "Dockerfile", text)
	source.Definition = &llb.Definition{}
	found, err := dockerfile2llb.DockerfileLint(context.Background(), text, dockerfile2llb.ConvertOpt{MetaResolver: &registry{}, SourceMap: source})
	if err != nil {
		t.Fatal(err)
	}
	if found.Error != nil {
		t.Error(found.Error.Message)
	}
	for _, w := range found.Warnings {
		t.Errorf("%s: %s (%s)", w.RuleName, w.Detail, w.URL)
	}
}

func TestImages(t *testing.T) {
	for _, tt := range []struct {
		target, entrypoint string
		health             []string
	}{
		{"", "/kurir", []string{"CMD", "/kurir", "health"}},
		{"kurir", "/kurir", []string{"CMD", "/kurir", "health"}},
		{"whatsapp", "/kurir-whatsapp", []string{"CMD-SHELL", `wget -q -O /dev/null "http://127.0.0.1:${WORKER_PORT:-8001}/health" || exit 1`}},
	} {
		images := &registry{}
		built, err := dockerfile2llb.Dockerfile2LLB(context.Background(), dockerfile(t), dockerfile2llb.ConvertOpt{MetaResolver: images,
			Config: dockerui.Config{Target: tt.target, BuildArgs: map[string]string{"VERSION": "v1.2.3"}}})
		if err != nil {
			t.Fatal(err)
		}
		is := built.Image.Config
		if is.User != "65532:65532" || is.WorkingDir != "/var/lib/kurir" || !slices.Equal(is.Entrypoint, []string{tt.entrypoint}) {
			t.Errorf("%s: runs %v as %s in %s", tt.target, is.Entrypoint, is.User, is.WorkingDir)
		}
		if is.Healthcheck == nil || !slices.Equal(is.Healthcheck.Test, tt.health) {
			t.Errorf("%s: HEALTHCHECK is %+v", tt.target, is.Healthcheck)
		}
		if tt.target != "whatsapp" && is.Labels["org.opencontainers.image.version"] != "v1.2.3" {
			t.Errorf("%s: labels are %v", tt.target, is.Labels)
		}
		for _, name := range images.asked {
			if tag := name[strings.LastIndex(name, ":")+1:]; tag == "latest" || strings.Contains(tag, "/") {
				t.Errorf("%s is built on %s, which has no version", tt.target, name)
			}
		}
	}
}
