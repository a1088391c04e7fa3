package api

import (
	"context"
	"io"
	"net"
	"sync"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
)

// UploadLimits bound uploads: each holds a connection, and a little memory and bandwidth, for as long as its client likes.
type UploadLimits struct {
	AtOnce  int           // of the process
	PerUser int           // of one tenant, in the process
	Timeout time.Duration // of one
}

// DefaultUploadLimits are those of a process that is told nothing.
func DefaultUploadLimits() UploadLimits {
	return UploadLimits{AtOnce: 64, PerUser: 8, Timeout: 5 * time.Minute}
}

// uploadStall is how long an upload may bring nothing.
const uploadStall = 20 * time.Second

var (
	errUploadsBusy = fault.New(fault.Unavailable, "uploads_busy", "Too many media are being uploaded at this moment.").After(2 * time.Second)
	errUploads     = fault.New(fault.Limited, "too_many_uploads", "You are uploading too many media at the same time.").After(2 * time.Second)
)

// uploads counts those under way.
type uploads struct {
	limits UploadLimits

	mu   sync.Mutex
	all  int
	each map[uuid.UUID]int
}

func newUploads(limits UploadLimits) *uploads {
	if limits == (UploadLimits{}) {
		limits = DefaultUploadLimits()
	}
	return &uploads{limits: limits, each: map[uuid.UUID]int{}}
}

// begin takes a place for a tenant's upload, which end gives back.
func (u *uploads) begin(owner uuid.UUID) (end func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.each[owner] >= u.limits.PerUser:
		return nil, errUploads
	case u.all >= u.limits.AtOnce:
		return nil, errUploadsBusy
	}
	u.all++
	u.each[owner]++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.all--
		if u.each[owner]--; u.each[owner] == 0 {
			delete(u.each, owner)
		}
	}, nil
}

// patient reads an upload: it may go on for long, while it goes on.
type patient struct {
	io.Reader
	conn net.Conn
	ctx  context.Context
}

func (p patient) Read(b []byte) (int, error) {
	until := time.Now().Add(uploadStall)
	if end, ok := p.ctx.Deadline(); ok && end.Before(until) {
		until = end
	}
	if err := p.conn.SetReadDeadline(until); err != nil {
		return 0, err
	}
	return p.Reader.Read(b)
}
