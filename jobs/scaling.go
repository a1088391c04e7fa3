package jobs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/fault"
	"kurir/models"
	"kurir/placement"
	"kurir/webhook"
)

// KindScaling works out how many workers there should be.
const KindScaling = "workers:scaling"

// KindScalingNotice tells SCALING_WEBHOOK_URL that the recommendation has changed.
const KindScalingNotice = "scaling:notify"

// ScalingNotice is what is posted, signed with WEBHOOK_SECRET as every webhook is.
type ScalingNotice struct {
	ID        uuid.UUID `json:"id"`
	Type      string    `json:"type"` // scaling.recommended
	Timestamp time.Time `json:"timestamp"`
	Data      struct {
		Action      string  `json:"action" enum:"scale_up,scale_down,none"`
		Workers     int     `json:"workers" doc:"That there are" example:"2"`
		Recommended int     `json:"recommended" doc:"That there should be" example:"3"`
		Utilization float64 `json:"utilization" doc:"Sessions per room of the workers online" example:"0.82"`
		Reason      string  `json:"reason" doc:"For people" example:"Sessions would fill 2 workers to 82.0 %: 3 instead of 2."`
	} `json:"data"`
}

func (r *Runner) scaling(ctx context.Context, _ tick) error {
	id := models.NewID()
	announced := false
	_, err := models.UpdateScaling(ctx, r.db, time.Now().UTC(), func(tx pgx.Tx, s placement.Scaling) error {
		if announced = r.cfg.ScalingURL != ""; !announced {
			return nil
		}
		n := ScalingNotice{ID: id, Type: "scaling.recommended", Timestamp: time.Now().UTC()}
		n.Data.Action, n.Data.Workers, n.Data.Recommended, n.Data.Utilization, n.Data.Reason = s.Action(), s.Workers, s.Recommended, s.Utilization, s.Reason
		return models.AddNotice(ctx, tx, id, KindScalingNotice, n)
	})
	if err != nil {
		return fmt.Errorf("update scaling: %w", err)
	}
	if announced {
		r.start(ctx, KindScalingNotice, id)
	}
	return nil
}

const noticeTimeout = 15 * time.Second

// operatorClient follows no redirect: the operator names the place itself.
var operatorClient = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

// notifyScaling posts the notice. The address is the operator's own, so it may lie in the operator's own network.
func (r *Runner) notifyScaling(ctx context.Context, j *models.Job) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, noticeTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.cfg.ScalingURL, bytes.NewReader(j.Params))
	if err != nil {
		return nil, fault.New(fault.Invalid, "invalid_url", "SCALING_WEBHOOK_URL is not set, or is no URL.").WithCause(withoutURL(err))
	}
	req.Header.Set("Content-Type", "application/json")
	if r.cfg.OperatorSecret != "" {
		signed, err := webhook.Sign([]string{r.cfg.OperatorSecret}, j.ID.String(), time.Now(), j.Params)
		if err != nil {
			return nil, fmt.Errorf("sign notice %s: %w", j.ID, err)
		}
		maps.Copy(req.Header, signed)
	}
	res, err := operatorClient.Do(req)
	if err != nil {
		return nil, errNotice.WithCause(withoutURL(err))
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return nil, errNotice.WithCause(fmt.Errorf("status %d", res.StatusCode))
	}
	return json.RawMessage(fmt.Sprintf(`{"status":%d}`, res.StatusCode)), nil
}

// withoutURL takes the address out of a client's error, which is logged: the address may hold a token.
func withoutURL(err error) error {
	if failed, ok := errors.AsType[*url.Error](err); ok {
		return failed.Err
	}
	return err
}

var errNotice = fault.New(fault.Unavailable, "notice_not_taken", "SCALING_WEBHOOK_URL did not take the notice.")
