package whatsapp

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/appstate"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"kurir/worker"
)

// handle takes an event of whatsmeow. False: it is not to be acknowledged to WhatsApp, now or at all.
func (l *link) handle(evt any) (ok bool) {
	defer l.c.guard("an event's handler")
	switch e := evt.(type) {
	case *events.Message:
		return l.message(e)
	case *events.UndecryptableMessage:
		l.unreadable(e)
	case *events.Receipt:
		return l.receipt(e)
	case *events.GroupInfo:
		return l.groupChange(e)
	case *events.JoinedGroup:
		return l.joined(e)
	case *events.CallOffer:
		return l.call(e.BasicCallMeta, video(e.Data))
	case *events.CallOfferNotice:
		return l.call(e.BasicCallMeta, e.Media == "video")
	case *events.ChatPresence:
		l.chatPresence(e)
	case *events.Presence:
		l.presence(e)
	default:
		l.connection(evt)
	}
	return true
}

// connection takes what happens to the link itself.
func (l *link) connection(evt any) {
	switch e := evt.(type) {
	case *events.QR:
		l.showCodes(e.Codes)
	case *events.PairSuccess:
		l.c.linked(e.ID.User)
	case *events.PairError:
		l.end(fmt.Errorf("%w: the pairing failed: %w", errLost, e.Error))
	case *events.ManualLoginReconnect:
		l.end(errAnew)
	case *events.QRScannedWithoutMultidevice:
		l.c.log.Warn("the QR code was scanned by a phone that does not link devices: its WhatsApp is too old")
	case *events.Connected:
		l.loggedIn()
		go l.introduce()
	case *events.PushNameSetting:
		go l.introduce()
	case *events.AppStateSyncComplete:
		if e.Name == appstate.WAPatchCriticalBlock { // the name is in it
			go l.introduce()
		}
	case *events.Disconnected:
		l.end(errLost)
	case *events.KeepAliveTimeout:
		if e.ErrorCount >= keepAlives {
			l.end(fmt.Errorf("%w: WhatsApp is silent", errLost))
		}
	case *events.StreamError:
		time.AfterFunc(remoteTimeout, func() { l.end(fmt.Errorf("%w: stream error %s", errLost, e.Code)) }) // WhatsApp closes it sooner
	default:
		if end := l.ending(evt); end != nil {
			l.end(end)
		}
	}
}

// introduce tells WhatsApp the name that the phone has told us: without it, people are shown a dash for one. It says so without
// being there, so that the phone goes on to ring.
func (l *link) introduce() {
	defer l.c.guard("telling the name")
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	if err := l.client.SendPresence(ctx, types.PresenceUnavailable); err != nil && !errors.Is(err, whatsmeow.ErrNoPushName) {
		l.c.log.Info("the name is not told", "error", redact(err.Error()))
	}
}

// keepAlives that fail in a row end a link. There is one each 20 to 30 s.
const keepAlives = 2

// banWithoutEnd is how long a ban is waited for of which WhatsApp does not tell the end.
const banWithoutEnd = time.Hour

// ending tells what ends a link, other than trouble on the way; nil: nothing.
func (l *link) ending(evt any) error {
	switch e := evt.(type) {
	case *events.StreamReplaced:
		return l.replaced()
	case *events.LoggedOut:
		switch {
		case e.OnConnect && e.Reason == events.ConnectFailureMainDeviceGone:
			return endLocked
		case e.OnConnect && e.Reason == events.ConnectFailureUnknownLogout:
			return endBanned
		}
		return endLoggedOut
	case *events.TemporaryBan:
		banned := *endBanned
		banned.unlinked = false
		if e.Expire <= 0 { // WhatsApp does not say until when
			e.Expire = banWithoutEnd
		}
		banned.until = time.Now().Add(e.Expire)
		l.c.log.Warn("WhatsApp has banned the number for a while", "code", int(e.Code), "why", e.Code.String(), "until", banned.until)
		return &banned
	case *events.ClientOutdated:
		if !l.c.engine.outdated.Swap(true) {
			l.c.log.Error("WhatsApp refuses this version: raise go.mau.fi/whatsmeow, or WHATSAPP_VERSION. No session of this worker connects until then")
		}
		return endOutdated
	case *events.CATRefreshError:
		return fmt.Errorf("%w: the access token is not renewed: %w", errRefused, e.Error)
	case *events.ConnectFailure:
		return fmt.Errorf("%w: reason %d", errRefused, int(e.Reason))
	}
	return nil
}

// replaced decides who is in the right when another client has logged in with the session's credentials: one of a later epoch is;
// one of an earlier epoch, which does not know yet that it has lost the session, is not, and neither is a stranger. Against
// a stranger the session gives up after a while. If the database does not say who is, the claim of the next link will.
func (l *link) replaced() error {
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	current, err := l.c.holder.current(ctx)
	if err == nil && !current || !l.c.session.Lease() || l.c.replacements.tooMany(time.Now()) {
		return endReplaced
	}
	return fmt.Errorf("%w: another client had logged in", errLost)
}

// replacements counts how often a session was replaced by somebody who does not hold it.
type replacements struct {
	count int
	since time.Time
}

const (
	replacementsAllowed = 5
	replacementsWithin  = 10 * time.Minute
)

// tooMany counts one more.
func (r *replacements) tooMany(now time.Time) bool {
	if now.Sub(r.since) > replacementsWithin {
		r.count, r.since = 0, now
	}
	r.count++
	return r.count > replacementsAllowed
}

// again finds a message that a phone could not read and asks for once more. Anybody can name an ID: the text is for those only whom it
// was for, and for the session's own phone.
func (l *link) again(requester, to types.JID, id types.MessageID) *waE2E.Message {
	defer l.c.guard("finding a message")
	ctx, cancel := context.WithTimeout(l.ctx, storeTimeout)
	defer cancel()
	m, chat, err := l.c.holder.sentTo(ctx, id)
	if err != nil {
		l.c.log.Warn("a phone asks for a message again, and the database does not answer", "error", redact(err.Error()))
		return nil
	}
	if m == nil {
		return nil
	}
	if !l.people.same(ctx, requester, l.people.own()) && !l.people.same(ctx, to, chat) {
		l.c.log.Warn("somebody asks for a message that was not sent to him", "message", id)
		return nil
	}
	l.c.engine.retries.Add(1)
	return m
}

// settled hands over events and waits until the gateway has them all. False: the link ended first, and WhatsApp tells them again.
func (l *link) settled(list ...worker.Event) bool {
	stored := make(chan struct{}, len(list))
	for _, e := range list {
		e.Ack = func() { stored <- struct{}{} }
		l.c.sink(e)
	}
	for range list {
		select {
		case <-stored:
		case <-l.ctx.Done():
			return false
		}
	}
	return true
}
