package api

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"kurir/fault"
	"kurir/models"
	"kurir/recent"
)

// credentials remembers for a few seconds who a key or a token belongs to. Changes are heard from PostgreSQL and drop
// what they concern at once; should the ear be deaf for a moment, the seconds bound the harm.
type credentials struct {
	db    *models.DB
	log   *slog.Logger
	keys  *recent.Values[string, *principal] // by the key's SHA-256
	users *recent.Values[uuid.UUID, *models.User]
	names *recent.Values[ownedName, uuid.UUID] // sessions by owner and public name
	// changes counts what was heard. Whoever reads from the database notes it before, and stores only if it is the
	// same after: a change in between would otherwise be overwritten by what was read before it.
	changes atomic.Int64
}

const (
	credentialKept = 5 * time.Second
	credentialMost = 20_000
)

func newCredentials(db *models.DB, log *slog.Logger) *credentials {
	return &credentials{db: db, log: log, keys: recent.New[string, *principal](credentialMost, credentialKept),
		users: recent.New[uuid.UUID, *models.User](credentialMost, credentialKept),
		names: recent.New[ownedName, uuid.UUID](credentialMost, credentialKept)}
}

// ownedName is a session as its owner calls it.
type ownedName struct {
	user uuid.UUID
	id   string
}

// changed forgets a user, or everybody for the zero UUID.
func (c *credentials) changed(user uuid.UUID) {
	c.changes.Add(1)
	if user == uuid.Nil {
		c.keys.Purge()
		c.users.Purge()
		c.names.Purge()
		return
	}
	c.users.Remove(user)
	for _, name := range c.names.Keys() {
		if name.user == user {
			c.names.Remove(name)
		}
	}
	for _, key := range c.keys.Keys() {
		if p, ok := c.keys.Peek(key); ok && p.user.ID == user {
			c.keys.Remove(key)
		}
	}
}

func (c *credentials) byKey(ctx context.Context, key string) (*principal, error) {
	if !models.LooksLikeKey(key) {
		return nil, errBadKey
	}
	hash := models.HashKey(key)
	if p, ok := c.keys.Get(string(hash)); ok && (p.until == nil || time.Now().Before(*p.until)) {
		return p, nil // one that has ended is asked for anew: PostgreSQL's clock counts
	}
	before, asked := c.changes.Load(), time.Now()
	owner, err := models.KeyByHash(ctx, c.db, hash)
	if ok, err := models.Found(err); err != nil {
		return nil, databaseFault(err)
	} else if !ok || !owner.User.IsActive {
		return nil, errBadKey
	}
	p := &principal{user: &owner.User, session: owner.Session, name: owner.SessionPublicID, key: &owner.Key, keyVersion: &owner.Version,
		scopes: owner.Scopes, credential: "key:" + owner.Key.String()}
	if p.session != nil {
		p.credential = "session:" + p.session.String() // a new key of a session is no new credential
	}
	if owner.Left != nil {
		until := asked.Add(*owner.Left)
		p.until = &until
	}
	if c.changes.Load() == before {
		c.keys.Add(string(hash), p)
	}
	if !owner.Stale {
		return p, nil
	}
	if err := models.TouchKey(ctx, c.db, owner.Key); err != nil {
		c.log.Warn("last use of an API key not written", "key", owner.Key, "error", err)
	}
	return p, nil
}

func (c *credentials) user(ctx context.Context, id uuid.UUID) (*models.User, error) {
	if u, ok := c.users.Get(id); ok {
		return u, nil
	}
	before := c.changes.Load()
	u, err := models.UserByID(ctx, c.db, id)
	if ok, err := models.Found(err); err != nil {
		return nil, databaseFault(err)
	} else if !ok || !u.IsActive {
		return nil, errBadToken
	}
	if c.changes.Load() == before {
		c.users.Add(id, u)
	}
	return u, nil
}

// session finds the session that a user calls by a name. Whether it still takes messages is its lane's word.
func (c *credentials) session(ctx context.Context, user uuid.UUID, id string) (uuid.UUID, error) {
	name := ownedName{user, id}
	if uid, ok := c.names.Get(name); ok {
		return uid, nil
	}
	before := c.changes.Load()
	s, err := models.SessionOf(ctx, c.db, user, id)
	if err := found(err, models.ErrGone); err != nil {
		return uuid.Nil, err
	}
	if c.changes.Load() == before {
		c.names.Add(name, s.UID)
	}
	return s.UID, nil
}

// databaseFault says that PostgreSQL does not answer now.
func databaseFault(err error) error {
	return fault.New(fault.Unavailable, "database_unavailable", "The database does not answer now. Try again.").After(2 * time.Second).WithCause(err)
}
