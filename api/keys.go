package api

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/models"
)

// KeyResource is an API key of an account, without its secret.
type KeyResource struct {
	ID            string         `json:"id" format:"uuid"`
	Name          string         `json:"name" example:"Shop server"`
	Prefix        string         `json:"prefix" doc:"How the key begins, to tell keys apart" example:"kur_Zx81aQ"`
	Scopes        []models.Scope `json:"scopes" enum:"send,read,manage" doc:"What the key may do"`
	Expired       bool           `json:"expired"`
	ExpiresAt     *time.Time     `json:"expiresAt" doc:"Null: never"`
	LastUsedAt    *time.Time     `json:"lastUsedAt" doc:"To the minute; null: never"`
	CreatedAt     time.Time      `json:"createdAt"`
	RotatedAt     *time.Time     `json:"rotatedAt" doc:"When its secret was replaced last"`
	PreviousUntil *time.Time     `json:"previousUntil" doc:"Until when the secret before is good; null: it is not"`
}

func keyResource(k *models.AccountKey) KeyResource {
	return KeyResource{ID: k.ID.String(), Name: k.Name, Prefix: k.Prefix, Scopes: models.SortScopes(k.Scopes), Expired: k.Expired, ExpiresAt: utc(k.ExpiresAt),
		LastUsedAt: utc(k.LastUsed), CreatedAt: k.CreatedAt.UTC(), RotatedAt: utc(k.RotatedAt), PreviousUntil: utc(k.FormerUntil)}
}

// KeyList is all keys of an account.
type KeyList struct {
	APIKeys []KeyResource `json:"apiKeys"`
}

func (a *API) listKeys(ctx context.Context, _ *struct{}) (*Reply[KeyList], error) {
	keys, err := models.AccountKeysOf(ctx, a.db.Pool, callerOf(ctx).user.ID)
	if err != nil {
		return nil, databaseFault(err)
	}
	list := KeyList{APIKeys: make([]KeyResource, 0, len(keys))}
	for i := range keys {
		list.APIKeys = append(list.APIKeys, keyResource(&keys[i]))
	}
	return reply(list), nil
}

// CreateKeyInput makes a key.
type CreateKeyInput struct {
	OnceHeader
	Body struct {
		Name      string         `json:"name" minLength:"1" maxLength:"100" example:"Shop server"`
		Scopes    []models.Scope `json:"scopes" minItems:"1" maxItems:"3" enum:"send,read,manage" doc:"What the key may do" example:"[\"send\",\"read\"]"`
		ExpiresAt *time.Time     `json:"expiresAt,omitempty" doc:"From then on it is refused. Left out: it does not expire" example:"2030-01-01T00:00:00Z"`
	}
}

// ShownKey is a key with its secret.
type ShownKey struct {
	APIKey string `json:"apiKey,omitempty" doc:"The key, shown this once. Send it as X-Api-Key or Authorization: Bearer" example:"kur_…"`
	KeyResource
}

func (a *API) createKey(ctx context.Context, in *CreateKeyInput) (*Reply[ShownKey], error) {
	if err := checkKeyName(in.Body.Name); err != nil {
		return nil, err
	}
	if len(in.Body.Scopes) == 0 {
		return nil, fault.Field("scopes", "expected what the key may do")
	}
	if err := checkScopes(in.Body.Scopes); err != nil {
		return nil, err
	}
	now := time.Now()
	if e := in.Body.ExpiresAt; e != nil && !e.After(now) {
		return nil, fault.Field("expiresAt", "expected a time in the future")
	}
	user := callerOf(ctx).user.ID
	secret, row := models.NewAPIKey(user, nil, strings.TrimSpace(in.Body.Name), now)
	row.ID, row.Scopes, row.ExpiresAt = newResourceID(ctx), models.SortScopes(in.Body.Scopes), in.Body.ExpiresAt
	key, err := a.changeKey(ctx, row.ID, "api_key.created", func(tx pgx.Tx) error {
		made, err := models.AddAccountKey(ctx, tx, row)
		if err == nil && !made { // the first request with this Idempotency-Key died after its commit
			secret = ""
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply(ShownKey{APIKey: secret, KeyResource: keyResource(key)}), nil
}

// checkScopes refuses a scope that is named twice. (A schema that did so could not be asked about elements of other types.)
func checkScopes(given []models.Scope) error {
	if len(models.SortScopes(given)) != len(given) {
		return fault.Field("scopes", "expected each scope once")
	}
	return nil
}

func checkKeyName(name string) error {
	if strings.TrimSpace(name) == "" {
		return fault.Field("name", "expected a name")
	}
	return nil
}

// KeyPath names a key.
type KeyPath struct {
	KeyID string `path:"keyId" maxLength:"64" format:"uuid" doc:"The API key's ID"`
}

// changeKey runs a change of one of the caller's keys in a transaction, with its line in the audit trail, and reads what came
// of it.
func (a *API) changeKey(ctx context.Context, id uuid.UUID, what string, change func(tx pgx.Tx) error) (*models.AccountKey, error) {
	user := callerOf(ctx).user.ID
	var key models.AccountKey
	err := a.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		if err = change(tx); err != nil {
			return err
		}
		if key, err = models.AccountKeyOf(ctx, tx, user, id); err != nil {
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: what, Details: map[string]any{"keyId": id.String(), "prefix": key.Prefix, "scopes": key.Scopes, "expiresAt": utc(key.ExpiresAt)}})
	})
	if ok, err := models.Found(err); err != nil {
		return nil, stored(err)
	} else if !ok {
		return nil, models.ErrNoAccountKey
	}
	a.credentials.changed(user)
	a.hub.credentialsChanged()
	return &key, nil
}

// UpdateKeyInput changes a key.
type UpdateKeyInput struct {
	KeyPath
	Body struct {
		Name   *string        `json:"name,omitempty" minLength:"1" maxLength:"100" example:"Shop server"`
		Scopes []models.Scope `json:"scopes,omitempty" minItems:"1" maxItems:"3" enum:"send,read,manage" doc:"All that the key may do from now on" example:"[\"read\"]"`
	}
}

func (a *API) updateKey(ctx context.Context, in *UpdateKeyInput) (*Reply[KeyResource], error) {
	id, err := idOf(in.KeyID, models.ErrNoAccountKey)
	if err != nil {
		return nil, err
	}
	if in.Body.Name == nil && in.Body.Scopes == nil {
		return nil, fault.Field("name", "expected name or scopes")
	}
	if in.Body.Name != nil {
		if err := checkKeyName(*in.Body.Name); err != nil {
			return nil, err
		}
		name := strings.TrimSpace(*in.Body.Name)
		in.Body.Name = &name
	}
	if err := checkScopes(in.Body.Scopes); err != nil {
		return nil, err
	}
	var scopes []models.Scope // nil leaves them
	if len(in.Body.Scopes) > 0 {
		scopes = models.SortScopes(in.Body.Scopes)
	}
	key, err := a.changeKey(ctx, id, "api_key.changed", func(tx pgx.Tx) error {
		ok, err := models.ChangeAccountKey(ctx, tx, callerOf(ctx).user.ID, id, in.Body.Name, scopes)
		if err == nil && !ok {
			return models.ErrNoAccountKey
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply(keyResource(key)), nil
}

func (a *API) deleteKey(ctx context.Context, in *KeyPath) (*Reply[Done], error) {
	id, err := idOf(in.KeyID, models.ErrNoAccountKey)
	if err != nil {
		return nil, err
	}
	user := callerOf(ctx).user.ID
	err = a.db.InPgxTx(ctx, func(tx pgx.Tx) error {
		ok, err := models.DeactivateAccountKey(ctx, tx, user, id)
		if err == nil && !ok {
			return models.ErrNoAccountKey
		}
		if err != nil {
			return err
		}
		return a.audit(ctx, tx, models.Audit{Message: "api_key.deleted", Details: map[string]string{"keyId": id.String()}})
	})
	if err != nil {
		return nil, stored(err)
	}
	a.credentials.changed(user)
	a.hub.credentialsChanged()
	return reply(Done{Message: "The API key is deleted."}), nil
}

// Overlaps of a rotation, in seconds.
const (
	defaultOverlap = 86_400
	mostOverlap    = 7 * 86_400
)

// RotateKeyInput replaces a key's secret.
type RotateKeyInput struct {
	KeyPath
	Body *RotateKeyFields
}

// RotateKeyFields say how. The body may be left out.
type RotateKeyFields struct {
	Overlap *int `json:"overlap,omitempty" minimum:"0" maximum:"604800" doc:"Seconds for which the former secret is good too; default: 86400, a day" example:"3600"`
}

func (a *API) rotateKey(ctx context.Context, in *RotateKeyInput) (*Reply[ShownKey], error) {
	id, err := idOf(in.KeyID, models.ErrNoAccountKey)
	if err != nil {
		return nil, err
	}
	overlap := defaultOverlap
	if in.Body != nil && in.Body.Overlap != nil {
		overlap = min(*in.Body.Overlap, mostOverlap)
	}
	user := callerOf(ctx).user.ID
	secret, next := models.NewAPIKey(user, nil, "", time.Now())
	key, err := a.changeKey(ctx, id, "api_key.rotated", func(tx pgx.Tx) error {
		return models.RotateAccountKey(ctx, tx, user, id, next, time.Duration(overlap)*time.Second)
	})
	if err != nil {
		return nil, err
	}
	return reply(ShownKey{APIKey: secret, KeyResource: keyResource(key)}), nil
}
