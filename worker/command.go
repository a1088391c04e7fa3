package worker

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"kurir/wire"
)

const (
	reconnectsAtOnce = 16 // so that the network is not stormed by all sessions of a node together
	reconnectTimeout = drainTimeout + closeTimeout
)

// Command carries out what is asked of the node as a whole.
func (n *Node) Command(ctx context.Context, c wire.Command) (any, error) {
	switch c.Command {
	case wire.CommandPing:
		return n.Health(ctx), nil
	case wire.CommandReconnect:
		return n.reconnectAll(ctx)
	case wire.CommandLogLevel:
		return n.setLogLevel(ctx, c.Data)
	default:
		return nil, wire.Refuse(wire.CodeUnsupported, "this worker does not know that command")
	}
}

// reconnectAll opens every session's network connection anew. The epochs stay, and with them what the gateway knows
// of who holds what.
func (n *Node) reconnectAll(ctx context.Context) (wire.Reconnected, error) {
	if t := n.current(); t == nil || !t.lease.held() {
		return wire.Reconnected{}, wire.Refuse(wire.CodeLeaseLost, ErrLeaseLost.Error())
	}
	held := n.held()
	for _, s := range held {
		if _, ok := s.conn.(Reconnecter); !ok {
			return wire.Reconnected{}, wire.Refuse(wire.CodeUnsupported, "the engine cannot reconnect a session")
		}
	}
	var done atomic.Int64
	var g errgroup.Group
	g.SetLimit(reconnectsAtOnce)
	for _, s := range held {
		g.Go(func() error {
			if n.reconnect(ctx, s) {
				done.Add(1)
			}
			return nil
		})
	}
	_ = g.Wait() // the functions return none
	n.log.InfoContext(ctx, "sessions reconnected by command", "sessions", done.Load(), "of", len(held))
	return wire.Reconnected{Sessions: int(done.Load())}, nil
}

// reconnect reports whether the session's connection is being opened anew. One that is let go of meanwhile is not.
func (n *Node) reconnect(ctx context.Context, s *session) bool {
	ctx, cancel := context.WithTimeout(ctx, reconnectTimeout)
	defer cancel()
	defer context.AfterFunc(s.lease.ctx, cancel)() // a lapse has to disconnect, not to wait for this
	unlock, err := n.locks.lock(ctx, s.id)
	if err != nil {
		return false
	}
	defer unlock()
	c, ok := s.conn.(Reconnecter)
	if !ok || n.session(s.id) != s || !s.live() {
		return false
	}
	if err := c.Reconnect(ctx); err != nil {
		n.log.WarnContext(ctx, "a session does not reconnect", "session", s.id, "epoch", s.epoch, "error", redact(err))
		return false
	}
	return true
}

var logLevels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

func (n *Node) setLogLevel(ctx context.Context, data json.RawMessage) (wire.LogLevel, error) {
	if n.cfg.LogLevel == nil {
		return wire.LogLevel{}, wire.Refuse(wire.CodeUnsupported, "this worker's log level is fixed")
	}
	var l wire.LogLevel
	if err := json.Unmarshal(data, &l); err != nil {
		return wire.LogLevel{}, wire.Refuse(wire.CodeInvalidRequest, "data is not the JSON that log_level takes")
	}
	level, ok := logLevels[l.Level]
	if !ok {
		return wire.LogLevel{}, wire.Refuse(wire.CodeInvalidRequest, "level is debug, info, warn or error")
	}
	n.cfg.LogLevel.Set(level)
	n.log.WarnContext(ctx, "log level changed by command", "level", l.Level)
	return l, nil
}
