package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"kurir/models"
)

// WorkerMedia says for which session a worker asks. The session has to be in its hands, or to have been just now.
type WorkerMedia struct {
	WorkerPath
	Term    int64  `header:"X-Kurir-Term" minimum:"1" doc:"The worker's term"`
	Session string `header:"X-Kurir-Session" maxLength:"64" doc:"The session's internal ID"`
}

// mediaHolder is the owner of the session that the worker asks for.
func (a *API) mediaHolder(ctx context.Context, in WorkerMedia) (uuid.UUID, error) {
	if err := a.checkSecret(in.WorkerPath, in.Term); err != nil {
		return uuid.Nil, err
	}
	session, err := idOf(in.Session, models.ErrGone)
	if err != nil {
		return uuid.Nil, err
	}
	user, ok, err := models.MediaHolder(ctx, a.db.Pool, in.WorkerID, in.Term, session)
	switch {
	case err != nil:
		return uuid.Nil, databaseFault(err)
	case !ok:
		return uuid.Nil, models.ErrGone
	}
	return user, nil
}

// WorkerGetInput asks for a medium to be sent.
type WorkerGetInput struct {
	WorkerMedia
	MediaPath
}

func (a *API) workerGetMedia(ctx context.Context, in *WorkerGetInput) (*huma.StreamResponse, error) {
	user, err := a.mediaHolder(ctx, in.WorkerMedia)
	if err != nil {
		return nil, err
	}
	id, err := idOf(in.MediaID, models.ErrNoMedia)
	if err != nil {
		return nil, err
	}
	m, err := a.cfg.Media.Find(ctx, user, nil, id)
	if err != nil {
		return nil, stored(err)
	}
	return a.serveMedia(ctx, m, &in.MediaPath)
}

// WorkerPutInput hands over a medium that came in.
type WorkerPutInput struct{ WorkerMedia }

// workerPutMedia takes what the network delivered, of whatever type, up to the size of the largest kind.
func (a *API) workerPutMedia(ctx context.Context, in *WorkerPutInput) (*Reply[MediaData], error) {
	user, err := a.mediaHolder(ctx, in.WorkerMedia)
	if err != nil {
		return nil, err
	}
	m, err := a.putMedia(ctx, a.intakes, user, "")
	if err != nil {
		return nil, err
	}
	return reply(mediaData(m)), nil
}
