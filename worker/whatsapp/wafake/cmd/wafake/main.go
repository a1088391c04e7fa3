// Command wafake is a fake WhatsApp on this machine, to try the worker without WhatsApp. A worker that is to speak with
// it has to be built for that, by -tags=wafake: make run-wafake starts both.
package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"kurir/worker/whatsapp/wafake"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	listen := flag.String("listen", "127.0.0.1:8090", "address of the network")
	control := flag.String("control", "127.0.0.1:8091", "address at which it takes orders: scan, write, shown, drop ...")
	flag.Parse()
	s, err := wafake.Listen(*listen)
	if err != nil {
		return err
	}
	orders := &http.Server{Addr: *control, Handler: s.Control(), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- orders.ListenAndServe() }()
	fmt.Printf("a fake WhatsApp is at %s, and takes orders at http://%s: curl -d number=49170 --data-urlencode qr=... http://%s/scan\n", s.Addr(), *control, *control)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	select {
	case <-ctx.Done():
		err = nil
	case err = <-failed:
	}
	_ = orders.Close()
	_ = s.Close()
	return err
}
