package main

import (
	"context"
	"fmt"
	"io"

	"github.com/skip2/go-qrcode"

	"kurir/wire"
	"kurir/worker"
)

// drawn is an engine whose QR codes are drawn in the terminal, where that is wanted.
func drawn(e worker.Engine, wanted bool, out io.Writer) worker.Engine {
	if !wanted {
		return e
	}
	return drawing{e, out}
}

type drawing struct {
	worker.Engine
	out io.Writer
}

// Open implements worker.Engine.
func (d drawing) Open(ctx context.Context, s worker.Session, sink worker.Sink) (worker.Conn, error) {
	return d.Engine.Open(ctx, s, func(e worker.Event) {
		switch data := e.Data.(type) {
		case wire.QRData:
			d.draw(s, data)
		case wire.StatusData:
			fmt.Fprintf(d.out, "\n  %s: %s %s\n", s.Name, data.Status, data.Reason)
		}
		sink(e)
	})
}

func (d drawing) draw(s worker.Session, data wire.QRData) {
	code, err := qrcode.New(data.QR, qrcode.Low)
	if err != nil {
		return // the API shows it too
	}
	fmt.Fprintf(d.out, "\n  %s (uid %s): scan this with WhatsApp, Settings, Linked devices, until %s\n\n%s\n", s.Name, s.ID, data.ExpiresAt.Local().Format("15:04:05"), code.ToSmallString(false))
}
