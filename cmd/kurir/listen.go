package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/spf13/cobra"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// demoSecret is the one of the printed walk-through. It protects nothing: the receiver only prints.
const demoSecret = "whsec_a3VyaXItbGlzdGVuLWRlbW8tc2VjcmV0"

func (p *program) listen() *cobra.Command {
	var port int
	var secret string
	c := &cobra.Command{Use: "listen", Short: "A webhook receiver that verifies signatures and prints what comes", Args: cobra.NoArgs,
		Long: `Listens on loopback, verifies each delivery as Standard Webhooks say, prints it, and answers 204; a bad signature gets 401. It is a
tool for development.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			verifier, err := standard.NewWebhook(secret)
			if err != nil {
				return fmt.Errorf("--secret: expected whsec_ and base64: %w", err)
			}
			l, err := listen(true, port)
			if err != nil {
				return fmt.Errorf("--port: %w; choose another one, and name it in the webhook's url", err)
			}
			fmt.Fprintf(p.stdout, "Waiting for webhooks at http://localhost:%d/\n", l.Addr().(*net.TCPAddr).Port)
			return serveHTTP(cmd.Context(), l, &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: &receiver{verifier: verifier, out: p.stdout}})
		}}
	c.Flags().IntVar(&port, "port", 9000, "port on loopback")
	c.Flags().StringVar(&secret, "secret", demoSecret, "the webhook's secret")
	return c
}

type receiver struct {
	verifier *standard.Webhook
	mu       sync.Mutex
	out      io.Writer
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(io.LimitReader(req.Body, 4<<20))
	if err == nil {
		err = r.verifier.Verify(body, req.Header)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		fmt.Fprintln(r.out, "refused:", err)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var pretty bytes.Buffer
	if json.Indent(&pretty, body, "", "  ") != nil {
		pretty.Write(body)
	}
	fmt.Fprintf(r.out, "signature valid, webhook-id %s\n%s\n\n", req.Header.Get("webhook-id"), pretty.String())
	w.WriteHeader(http.StatusNoContent)
}
