package jobs

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"kurir/models"
)

// KindForgetContact deletes what is kept of a person: messages, what events and subscribers' answers say of them, reactions,
// and the conversation itself, in one session or in all of a user's. What is written after the request stays. It works in
// small steps, each a transaction, and notes after each where it stands: a killed runner's successor goes on from there,
// and a step done twice finds nothing left to do.
const KindForgetContact = "contact:forget"

const (
	forgetRows = 1000             // looked through in one step
	forgetTime = 20 * time.Second // of one run; then it lets others have the slot
	forgetLook = 5 * time.Second  // between looks at messages that are on their way
)

// forgetParams is what is asked for, and where the work stands. Nothing is left of it when the work is done: the job's
// row outlives the person's data.
type forgetParams struct {
	Address string      `json:"address"`
	Before  time.Time   `json:"before"`
	Session *uuid.UUID  `json:"session"` // under work
	Done    []uuid.UUID `json:"done"`    // sessions that are finished
	Phase   int         `json:"phase"`
	Item    int         `json:"item"` // chat or webhook within the phase
	Below   *uuid.UUID  `json:"below"`
	BelowN  int64       `json:"belowN"`
}

// ForgetContactParams are the params of a new job: whose data, and the time that they are from before.
func ForgetContactParams(address string, before time.Time) (json.RawMessage, error) {
	return json.Marshal(forgetParams{Address: address, Before: before})
}

// forgotten is the job's progress, and at the end its result.
type forgotten struct {
	Sessions  int `json:"sessions"` // that are finished
	Cancelled int `json:"cancelled"`
	Messages  int `json:"messages"` // deleted
	Events    int `json:"events"`   // deleted
}

// forgetter is one run of the job.
type forgetter struct {
	r       *Runner
	job     *models.Job
	at      forgetParams
	sum     forgotten
	session uuid.UUID
	person  *models.Person
	hooks   []uuid.UUID
	until   uuid.UUID // messages below it are deleted
}

func (r *Runner) forgetContact(ctx context.Context, j *models.Job) (any, error) {
	f := &forgetter{r: r, job: j}
	_ = json.Unmarshal(j.Progress, &f.sum) // none: the first run
	if err := json.Unmarshal(j.Params, &f.at); err != nil || f.at.Address == "" {
		return f.sum, nil // all was done, but for saying so
	}
	f.until = models.LowestID(f.at.Before)
	deadline := time.Now().Add(forgetTime)
	for {
		more, err := f.nextSession(ctx)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		for done := false; !done; {
			if time.Now().After(deadline) {
				return nil, later{0}
			}
			if done, err = f.step(ctx); err != nil {
				return nil, err
			}
			if err := models.SaveStep(ctx, r.db.Pool, j, f.at, f.sum); err != nil {
				return nil, fmt.Errorf("save progress of %s: %w", j.ID, err)
			}
		}
	}
	if err := models.SaveStep(ctx, r.db.Pool, j, map[string]any{}, f.sum); err != nil {
		return nil, fmt.Errorf("save progress of %s: %w", j.ID, err)
	}
	line := models.Audit{Message: "contact.forgotten", Details: map[string]any{"job": j.ID, "sessions": f.sum.Sessions, "messages": f.sum.Messages, "events": f.sum.Events}}
	if j.UserID != nil {
		line.Target = *j.UserID
	}
	r.audit(ctx, line)
	return f.sum, nil
}

// forgetFailed is for a job that is given up: its row is kept, the address is not.
func (r *Runner) forgetFailed(ctx context.Context, j *models.Job, _ error) {
	if err := models.SaveStep(ctx, r.db.Pool, j, map[string]any{}, j.Progress); err != nil {
		r.log.Error("address not removed from a job", "job", j.ID, "error", err)
	}
}

// nextSession finds the session to work on, and who the person is there.
func (f *forgetter) nextSession(ctx context.Context) (bool, error) {
	if f.at.Session == nil {
		var all []uuid.UUID
		if f.job.SessionUID != nil {
			all = []uuid.UUID{*f.job.SessionUID}
		} else if f.job.UserID != nil {
			var err error
			if all, err = models.AllSessions(ctx, f.r.db.Pool, *f.job.UserID); err != nil {
				return false, fmt.Errorf("list sessions: %w", err)
			}
		}
		done := map[uuid.UUID]bool{}
		for _, uid := range f.at.Done {
			done[uid] = true
		}
		for _, uid := range all {
			if !done[uid] {
				f.at.Session = &uid
				break
			}
		}
		if f.at.Session == nil {
			return false, nil
		}
		f.begin(0)
	}
	f.session = *f.at.Session
	var err error
	if f.person, err = models.PersonOf(ctx, f.r.db.Pool, f.session, f.at.Address); err != nil {
		return false, fmt.Errorf("find contact in %s: %w", f.session, err)
	}
	if f.hooks, err = models.WebhooksOver(ctx, f.r.db.Pool, f.session); err != nil {
		return false, fmt.Errorf("find webhooks of %s: %w", f.session, err)
	}
	return true, nil
}

// begin goes on to a phase.
func (f *forgetter) begin(phase int) {
	f.at.Phase, f.at.Item, f.at.Below, f.at.BelowN = phase, 0, nil, math.MaxInt64
}

// phases of the work in a session. What waits is cancelled first, and what is on its way is waited for, while the rest is
// deleted. The person's row in chats goes last: it tells which names are his.
var forgetPhases = []func(*forgetter, context.Context) (done bool, err error){
	(*forgetter).cancel, (*forgetter).chats, (*forgetter).author, (*forgetter).settled, (*forgetter).answers, (*forgetter).events, (*forgetter).contact,
}

// step does a bounded part of the work, and says whether the session is finished.
func (f *forgetter) step(ctx context.Context) (bool, error) {
	done, err := forgetPhases[f.at.Phase](f, ctx)
	if err != nil || !done {
		return false, err
	}
	if f.at.Phase < len(forgetPhases)-1 {
		f.begin(f.at.Phase + 1)
		return false, nil
	}
	f.at.Done, f.at.Session = append(f.at.Done, f.session), nil
	f.sum.Sessions++
	return true, nil
}

func (f *forgetter) cancel(ctx context.Context) (bool, error) {
	var n int
	var woken []models.Woken
	err := f.r.db.InPgxTx(ctx, func(tx pgx.Tx) (err error) {
		n, woken, err = models.CancelTo(ctx, tx, f.session, f.person, f.until, forgetRows)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("cancel messages of %s: %w", f.session, err)
	}
	f.r.waker.Webhooks(woken...)
	f.sum.Cancelled += n
	return n == 0, nil
}

// below is where a sweep over messages goes on.
func (f *forgetter) below() uuid.UUID {
	if f.at.Below != nil {
		return *f.at.Below
	}
	return f.until
}

func (f *forgetter) chats(ctx context.Context) (bool, error) {
	if f.at.Item >= len(f.person.Chats) {
		return true, nil
	}
	s, err := models.ForgetChat(ctx, f.r.db.Pool, f.session, f.person.Chats[f.at.Item], f.below(), forgetRows)
	f.sum.Messages += s.Changed
	if f.at.Below = &s.Next; s.Done {
		f.at.Item, f.at.Below = f.at.Item+1, nil
	}
	return false, err
}

func (f *forgetter) author(ctx context.Context) (bool, error) {
	s, err := models.ForgetAuthor(ctx, f.r.db.Pool, f.session, f.person, f.below(), forgetRows)
	f.sum.Messages += s.Changed
	f.at.Below = &s.Next
	return s.Done, err
}

// settled goes on when nothing is left to be sent, or on its way. Messages that have ended since are deleted by another round.
func (f *forgetter) settled(ctx context.Context) (bool, error) {
	waiting, err := models.Unsettled(ctx, f.r.db.Pool, f.session, f.person, f.until)
	switch {
	case err != nil:
		return false, fmt.Errorf("look for unsettled messages of %s: %w", f.session, err)
	case waiting:
		f.at.Item = 1
		if err := models.SaveStep(ctx, f.r.db.Pool, f.job, f.at, f.sum); err != nil {
			return false, err
		}
		if n, err := f.cancel(ctx); err != nil || !n {
			return false, err
		}
		return false, later{forgetLook}
	case f.at.Item == 1:
		f.begin(1)
		return false, nil
	}
	return true, nil
}

func (f *forgetter) answers(ctx context.Context) (bool, error) {
	if f.at.Item >= len(f.hooks) {
		return true, nil
	}
	next, err := models.ForgetAnswers(ctx, f.r.db.Pool, f.session, f.person, f.until, f.hooks[f.at.Item], f.at.BelowN, forgetRows)
	if err != nil {
		return false, fmt.Errorf("forget answers of %s: %w", f.session, err)
	}
	if f.at.BelowN = next; next == 0 {
		f.at.Item, f.at.BelowN = f.at.Item+1, math.MaxInt64
	}
	return false, nil
}

func (f *forgetter) events(ctx context.Context) (bool, error) { // all of them: receipts of old messages may be new
	changed, next, err := models.ForgetEvents(ctx, f.r.db.Pool, f.session, f.person, f.until, f.at.BelowN, forgetRows)
	f.sum.Events += changed
	f.at.BelowN = next
	return next == 0, err
}

func (f *forgetter) contact(ctx context.Context) (bool, error) {
	return true, models.ForgetPerson(ctx, f.r.db.Pool, f.session, f.person)
}
