package api

import (
	"context"
	"encoding/json"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
)

// LogLine is a line of the audit trail. It holds IDs only.
type LogLine struct {
	ID           string          `json:"id" format:"uuid"`
	Timestamp    time.Time       `json:"timestamp"`
	Level        string          `json:"level" enum:"error,warn,info,debug"`
	Service      string          `json:"service" doc:"Which part of us wrote it: api, runner or cli" example:"api"`
	Action       string          `json:"action" doc:"What was done" example:"user.changed"`
	Actor        string          `json:"actor" enum:"anonymous,user,api_key,administrator,worker,system,operator" doc:"What kind of caller did it; operator: at the command line"`
	UserID       *string         `json:"userId" doc:"Who did it"`
	APIKeyID     *string         `json:"apiKeyId" doc:"With which key"`
	TargetUserID *string         `json:"targetUserId" doc:"Whose account it concerns"`
	SessionID    *string         `json:"sessionId" example:"shop"`
	WorkerID     *string         `json:"workerId" example:"worker-001"`
	IP           *string         `json:"ip" doc:"Where it came from" example:"203.0.113.7"`
	RequestID    *string         `json:"requestId" doc:"Names the request in our logs too"`
	Details      json.RawMessage `json:"details"`
}

// LogFilter chooses lines.
type LogFilter struct {
	Level   string    `query:"level" enum:"error,warn,info,debug" doc:"Lines of this level"`
	Service string    `query:"service" maxLength:"20" pattern:"^[a-z_-]{1,20}$" doc:"What this part of us wrote: api, runner or cli" example:"api"`
	Action  string    `query:"action" maxLength:"60" pattern:"^[a-z_.-]{1,60}$" doc:"Lines of this action" example:"user.changed"`
	Actor   string    `query:"actor" enum:"anonymous,user,api_key,administrator,worker,system,operator" doc:"What these did"`
	User    string    `query:"user" maxLength:"36" format:"uuid" doc:"Who did it"`
	Target  string    `query:"target" maxLength:"36" format:"uuid" doc:"Whose account it concerns"`
	Session string    `query:"session" maxLength:"64" pattern:"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$" doc:"What was done to this session" example:"shop"`
	Worker  string    `query:"worker" maxLength:"64" pattern:"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$" doc:"What was done to this worker" example:"worker-001"`
	IP      string    `query:"ip" maxLength:"45" doc:"Where it came from" example:"203.0.113.7"`
	Since   time.Time `query:"since" doc:"Not before this time"`
	Until   time.Time `query:"until" doc:"Before this time"`
}

// LogsInput asks for a page of the audit trail.
type LogsInput struct {
	Page
	LogFilter
}

// LogList is a page of the audit trail, newest first.
type LogList struct {
	Logs       []LogLine `json:"logs"`
	NextCursor *string   `json:"nextCursor" doc:"null: that was all. A page may be short, or empty, and more follow: each looks through a bounded number of lines"`
}

func (a *API) listLogs(ctx context.Context, in *LogsInput) (*Reply[LogList], error) {
	f := models.LogFilter{Level: strings.ToUpper(in.Level), Service: in.Service, Action: in.Action, Actor: in.Actor, Session: in.Session, Worker: in.Worker,
		Since: notBefore1970(in.Since), Until: notBefore1970(in.Until)}
	f.User, _ = uuid.Parse(in.User) // the schema has looked at these
	f.Target, _ = uuid.Parse(in.Target)
	if in.IP != "" {
		ip, err := netip.ParseAddr(in.IP)
		if err != nil || ip.Zone() != "" {
			return nil, fault.Field("ip", "expected an IP address")
		}
		f.IP = ip.Unmap()
	}
	lines, next, err := a.logs(ctx, f, in.Page)
	if err != nil {
		return nil, err
	}
	list := LogList{Logs: make([]LogLine, 0, len(lines)), NextCursor: next}
	for i := range lines {
		list.Logs = append(list.Logs, logLine(&lines[i]))
	}
	return reply(list), nil
}

// logs reads a page.
func (a *API) logs(ctx context.Context, f models.LogFilter, page Page) ([]models.LogLine, *string, error) {
	var err error
	if f.Before, err = page.after(); err != nil {
		return nil, nil, err
	}
	f.Limit = page.Limit
	lines, next, err := models.Logs(ctx, a.db.Pool, f)
	if err != nil {
		return nil, nil, databaseFault(err)
	}
	if next == uuid.Nil {
		return lines, nil, nil
	}
	cursor := encodeCursor(next)
	return lines, &cursor, nil
}

func logLine(l *models.LogLine) LogLine {
	r := LogLine{ID: l.ID.String(), Timestamp: l.At.UTC(), Level: strings.ToLower(l.Level), Service: l.Service, Action: l.Action, Actor: l.Actor,
		UserID: idText(l.User), APIKeyID: idText(l.Key), TargetUserID: idText(l.Target), SessionID: l.Session, WorkerID: l.Worker, RequestID: l.RequestID, Details: l.Details}
	if l.IP != nil {
		ip := l.IP.String()
		r.IP = &ip
	}
	return r
}

func idText(id *uuid.UUID) *string {
	if id == nil {
		return nil
	}
	text := id.String()
	return &text
}

// OwnLogLine is a line of the audit trail as the user sees whose account it concerns.
type OwnLogLine struct {
	ID        string    `json:"id" format:"uuid"`
	Timestamp time.Time `json:"timestamp"`
	Level     string    `json:"level" enum:"error,warn,info,debug"`
	Action    string    `json:"action" example:"session.created"`
	Actor     string    `json:"actor" enum:"anonymous,user,api_key,administrator,worker,system,operator" doc:"user and api_key: you; anonymous: somebody who did not log in, in vain"`
	APIKeyID  *string   `json:"apiKeyId"`
	SessionID *string   `json:"sessionId" example:"shop"`
	IP        *string   `json:"ip" doc:"Where it came from; not of administrators" example:"203.0.113.7"`
	RequestID *string   `json:"requestId"`
}

// OwnLogList is a page of it.
type OwnLogList struct {
	Logs       []OwnLogLine `json:"logs"`
	NextCursor *string      `json:"nextCursor"`
}

// listOwnLogs shows what was done to the caller's account and with it. Who of the administrators did something stays with them.
func (a *API) listOwnLogs(ctx context.Context, in *Page) (*Reply[OwnLogList], error) {
	lines, next, err := a.logs(ctx, models.LogFilter{Target: callerOf(ctx).user.ID}, *in)
	if err != nil {
		return nil, err
	}
	list := OwnLogList{Logs: make([]OwnLogLine, 0, len(lines)), NextCursor: next}
	for i := range lines {
		l := logLine(&lines[i])
		own := OwnLogLine{ID: l.ID, Timestamp: l.Timestamp, Level: l.Level, Action: l.Action, Actor: l.Actor, APIKeyID: l.APIKeyID, SessionID: l.SessionID}
		if l.Actor == models.ActorUser || l.Actor == models.ActorAPIKey || l.Actor == models.ActorAnonymous {
			own.IP, own.RequestID = l.IP, l.RequestID
		}
		list.Logs = append(list.Logs, own)
	}
	return reply(list), nil
}
